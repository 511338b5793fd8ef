//! Chains whose links are worked by both sides.

use lineshaft_client::proto::FailureReason;
use lineshaft_client::{Context, Failure};
use serde_json::json;

use crate::both::{Both, FUNCTIONS, SIDES, Step, send_chain, step};
use crate::go;
use crate::ours::{self, Seen};
use crate::support::until::{DEADLINE, soon};
use crate::world::*;

fn alternating(length: i64, first: usize) -> Vec<Step> {
    (0..length).map(|n| step(SIDES[(first + n as usize) % 2].name("add"), &[json!(n)])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_go_down_a_chain_from_side_to_side() {
    needs_machinery!();
    let both = Both::new().await;
    let mut ids = Vec::new();
    for (sender, first) in SIDES.into_iter().flat_map(|sender| [(sender, 0), (sender, 1)]) {
        let chain = send_chain(&both.world, sender, &alternating(7, first)).await;
        let (mut sum, client) = (0, &both.world.client);
        for (n, id) in (0..).zip(&chain) {
            sum += n;
            assert_eq!(client.result(id).get::<i64>(DEADLINE).await.unwrap(), sum, "{sender:?} {n}");
        }
        let ended = go::result(&both.world, &chain[6]).await;
        assert_eq!(ended.results, [("int64".to_owned(), json!(21))]);
        ids.extend(chain);
    }
    both.once(&ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_behind_one_that_failed_end_and_name_it_wherever_it_failed() {
    needs_machinery!();
    let both = Both::new().await;
    let now = both.gate("now");
    crate::both::open(&now);
    let mut chains = Vec::new();
    for (fails, position) in SIDES.into_iter().flat_map(|fails| [0, 2, 4].map(|position| (fails, position))) {
        let mut links = alternating(5, 0);
        links[position] = step(fails.name("fails"), &[json!(now), json!("boom")]);
        // Results of the link before would be one argument too many.
        if position > 0 {
            links[position - 1].is_immutable = true;
        }
        let chain = lineshaft_client::Chain::new(links.iter().map(Step::to_ours));
        chains.push((position, both.world.client.send_chain(chain).await.unwrap()));
    }
    for (position, chain) in &chains {
        let progress = chain.group().wait(DEADLINE).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (5, 5, 5 - *position as u32));
        let ids = crate::both::of_chain(chain);
        for (n, ended) in go::results(&both.world, &ids).await.into_iter().enumerate() {
            let expected = if n < *position { "SUCCESS" } else { "FAILURE" };
            assert_eq!(ended.state, expected, "{position} {n} {ended:?}");
            if n > *position {
                assert!(ended.error.contains(&ids[*position]) && ended.error.contains("boom"), "{ended:?}");
                let state = both.world.client.result(&ids[n]).state().await.unwrap();
                assert_eq!(state.failure_reason, FailureReason::NotRun);
            }
        }
    }
    both.once([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_failed_on_one_side_is_retried_on_the_other() {
    needs_machinery!();
    for sender in SIDES {
        let world = World::new().await;
        let names = [&FUNCTIONS[..], &["fail_here"]].concat();
        let mut machinery = go::Worker::start(&world, "first", 2, &names).await;
        let links = [
            step("add_go", &[json!(1)]).immutable(),
            step("fail_here", &[]).retries(2),
            step("add_ours", &[json!(2)]).immutable(),
            step("succeed_here", &[]).retries(1),
        ];
        let ids = send_chain(&world, sender, &links).await;
        machinery.saw("end", 2).await;
        machinery.kill().await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let worker = ours::mixed(ours::worker(&world), &Seen::default())
            .register("fail_here", || async { Ok::<_, Failure>(40i64) })
            .register("succeed_here", move |context: Context| {
                let _ = tell.send(context.task_id().to_owned());
                async { Err::<String, _>(Failure::new("failed here")) }
            });
        let worker = ours::run(worker);
        assert_eq!(soon("an attempt", told.recv()).await.unwrap(), ids[3]);
        assert_eq!(world.client.result(&ids[2]).get::<i64>(DEADLINE).await.unwrap(), 42);
        worker.stop().await;
        let machinery = go::Worker::start(&world, "second", 2, &["succeed_here"]).await;
        let ended = go::result(&world, &ids[3]).await;
        assert_eq!(ended.results, [("string".to_owned(), json!("done in Go"))], "{sender:?}");
        assert_eq!(machinery.saw("end", 1).await, [ids[3].clone()]);
        assert!(told.try_recv().is_err(), "once here");
    }
}
