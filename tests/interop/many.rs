//! Many workflows at once, whose tasks are worked by both sides in whatever order it comes to.

use std::time::Duration;

use futures::future::try_join_all;
use lineshaft_client::{Chain, Chord};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::both::{Both, SIDES, Sent, Side, Step, of_chain, of_chord, step};
use crate::go;
use crate::ours::{self, Seen};
use crate::support::until;
use crate::support::until::DEADLINE;
use crate::world::*;

/// Workflows of each kind, half of them sent by Machinery.
const MANY: usize = 500;
/// Tasks of each chord, half of them for either side.
const TASKS: u32 = 6;
/// Chords of which one side ends the last task: so many for each side.
const ORDERED: usize = 250;
/// How often the server is killed.
const KILLS: usize = 3;
/// How long all may take: an end that only Machinery wrote is seen within a minute, and what only Machinery knows is kept from its workers for up to half a minute each time our server met it.
const ENDED_MAX: Duration = Duration::from_secs(240);
/// States asked for at once.
const PAGE: usize = 500;
/// Links of each chain, from side to side.
const LINKS: usize = 4;

/// Which of a chord's tasks are ours, a bit for each: all ways to choose half of them, one after the other.
fn chosen(chord: usize) -> u32 {
    let mut halves = (0..1u32 << TASKS).filter(|chosen| chosen.count_ones() == TASKS / 2).cycle();
    halves.nth(chord).unwrap()
}

/// The tasks of a chord: each has a number of its own as its result.
fn tasks(chord: usize) -> Vec<Step> {
    let chosen = chosen(chord);
    let side = |n: u32| if chosen >> n & 1 == 1 { Side::Ours } else { Side::Go };
    (0..TASKS).map(|n| step(side(n).name("add"), &[json!(10 * chord), json!(n)])).collect()
}

/// The same, where whoever comes first works a task.
fn common(chord: usize) -> Vec<Step> {
    tasks(chord).into_iter().map(|task| Step { name: "either".to_owned(), ..task }).collect()
}

fn results_of(chord: usize) -> Vec<i64> {
    (0..i64::from(TASKS)).map(|n| 10 * chord as i64 + n).collect()
}

/// Sends so many at once: the first half from here, the second by Machinery.
async fn chords(world: &World, count: usize, tasks: impl Fn(usize) -> Vec<Step>) -> Vec<Sent> {
    let callback = step("list", &[]);
    let own = (0..count / 2).map(|chord| {
        let chord = Chord::new(tasks(chord).iter().map(Step::to_ours), callback.to_ours());
        world.client.send_chord(chord)
    });
    let theirs: Vec<(Vec<Value>, Option<Value>)> = (count / 2..count)
        .map(|chord| (tasks(chord).iter().map(Step::to_go).collect(), Some(callback.to_go())))
        .collect();
    let (own, theirs) = tokio::join!(try_join_all(own), go::send_together(world, "chord", &theirs));
    let theirs = theirs.into_iter().map(|go::Sent { group, tasks, callback }| Sent { group, tasks, callback });
    own.unwrap().iter().map(of_chord).chain(theirs).collect()
}

/// How many of these callbacks our server sent: those of which Machinery's record has our mark.
async fn sent_here(world: &World, chords: &[Sent]) -> usize {
    let groups: Vec<&str> = chords.iter().map(|sent| sent.group.as_str()).collect();
    let records: Vec<String> = redis::cmd("MGET").arg(groups).query_async(&mut world.connection().await).await.unwrap();
    records.iter().filter(|record| record.contains("\"Lineshaft\"")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_mixed_chords_each_fires_once_with_the_results_of_its_tasks_in_order() {
    needs_machinery!();
    let both = Both::new().await;
    let begun = Instant::now();
    let chords = chords(&both.world, MANY, tasks).await;
    println!("{MANY} chords sent after {:?}", begun.elapsed());
    let sent = ended(both, &chords, begun).await;
    println!("{sent} of {MANY} callbacks were sent here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_chords_each_fires_once_when_one_side_ends_the_last_task_of_every_one() {
    needs_machinery!();
    for last in SIDES {
        let world = World::new().await;
        let begun = Instant::now();
        let chords = chords(&world, ORDERED, tasks).await;
        let seen = Seen::default();
        let ours = || ours::run(ours::mixed(ours::worker(&world), &seen));
        let both = match last {
            Side::Go => {
                let worker = ours();
                let own = |(chord, sent): (usize, &Sent)| {
                    let positions = (0..TASKS as usize).filter(move |n| chosen(chord) >> n & 1 == 1);
                    positions.map(|n| sent.tasks[n].clone()).collect::<Vec<_>>()
                };
                let own: Vec<String> = chords.iter().enumerate().flat_map(own).collect();
                for ids in own.chunks(PAGE) {
                    until("ours have ended", async || {
                        let states = world.client.states(ids.to_vec()).await.unwrap();
                        states.iter().flatten().all(|state| state.is_success()).then_some(())
                    })
                    .await;
                }
                Both::of(world, seen.clone(), worker, None).await
            }
            Side::Ours => {
                let machinery = Both::machinery(&world, &[]).await;
                machinery.saw("end", ORDERED * TASKS as usize / 2).await;
                let worker = ours();
                Both::of(world, seen.clone(), worker, Some(machinery)).await
            }
        };
        println!("the first half ended after {:?}", begun.elapsed());
        let sent = ended(both, &chords, begun).await;
        println!("{last:?} last: {sent} of {ORDERED} callbacks were sent here");
        // Where Machinery ends the last one, whoever looks first sends the callback.
        assert!(if last == Side::Ours { sent == ORDERED } else { sent < ORDERED });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_chords_that_both_sides_work_none_is_left_waiting_though_the_server_is_killed_again_and_again() {
    needs_machinery!();
    let mut both = Both::new().await;
    let begun = Instant::now();
    let chords = chords(&both.world, MANY, common).await;
    for kill in 1..=KILLS {
        // By what has begun on both sides; how much of it has ended is up to chance.
        let enough = kill * MANY * TASKS as usize / (KILLS + 2);
        let count = || both.machinery.tasks("start").len() + both.seen.tasks().len();
        until("progress between kills", async || (count() >= enough).then_some(())).await;
        both.world.server.kill();
        both.world.server.restart();
    }
    println!("killed {KILLS} times, the last after {:?}", begun.elapsed());
    complete(&both, &chords, begun).await;
    // What is published again after a crash is not recognised where a worker of Machinery has taken the first copy.
    let all = all(&chords);
    let again = both.at_least_once(&all).await;
    println!("{} of {} tasks ran again, so often here and there: {again:?}", again.len(), all.len());
}

/// All have ended as they should, each task and callback once, and nothing is left. How many callbacks our server sent.
async fn ended(both: Both, chords: &[Sent], begun: Instant) -> usize {
    complete(&both, chords, begun).await;
    let seen = both.seen.tasks();
    println!("{} callbacks ran here", chords.iter().filter(|sent| seen.contains(&sent.callback)).count());
    let sent = sent_here(&both.world, chords).await;
    both.once(&all(chords)).await;
    sent
}

/// All have ended as they should.
async fn complete(both: &Both, chords: &[Sent], begun: Instant) {
    for sent in chords {
        let progress = both.world.client.group(&sent.group).wait(ENDED_MAX).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (TASKS, TASKS, 0));
    }
    println!("{} chords were complete after {:?}", chords.len(), begun.elapsed());
    let callbacks: Vec<String> = chords.iter().map(|sent| sent.callback.clone()).collect();
    for (chord, ended) in go::results(&both.world, &callbacks).await.into_iter().enumerate() {
        assert_eq!(ended.state, "SUCCESS", "{ended:?}");
        assert_eq!(ended.results, [("[]int64".to_owned(), json!(results_of(chord)))]);
    }
    assert_eq!(both.machinery.log(), "");
}

/// The ids of all tasks and callbacks.
fn all(chords: &[Sent]) -> Vec<String> {
    chords.iter().flat_map(|sent| sent.tasks.iter().chain([&sent.callback]).cloned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_mixed_chains_each_link_runs_once() {
    needs_machinery!();
    let both = Both::new().await;
    let begun = Instant::now();
    let links = |chain: usize| -> Vec<Step> {
        let side = |n: usize| SIDES[(chain + n) % 2];
        (0..LINKS).map(|n| step(side(n).name("add"), &[json!(chain + n)])).collect()
    };
    let own =
        (0..MANY / 2).map(|chain| both.world.client.send_chain(Chain::new(links(chain).iter().map(Step::to_ours))));
    let theirs: Vec<(Vec<Value>, Option<Value>)> =
        (MANY / 2..MANY).map(|chain| (links(chain).iter().map(Step::to_go).collect(), None)).collect();
    let (own, theirs) = tokio::join!(try_join_all(own), go::send_together(&both.world, "chain", &theirs));
    let own = own.unwrap();
    let chains: Vec<Vec<String>> = own.iter().map(of_chain).chain(theirs.into_iter().map(|sent| sent.tasks)).collect();
    let last: Vec<String> = chains.iter().map(|chain| chain[LINKS - 1].clone()).collect();
    for (chain, ended) in go::results(&both.world, &last).await.into_iter().enumerate() {
        let sum: usize = (0..LINKS).map(|n| chain + n).sum();
        assert_eq!(ended.results, [("int64".to_owned(), json!(sum))], "{ended:?}");
    }
    println!("{MANY} chains ended after {:?}", begun.elapsed());
    for chain in &own {
        let progress = chain.group().wait(DEADLINE).await.unwrap();
        assert_eq!((progress.ended, progress.failed), (LINKS as u32, 0));
    }
    println!("{MANY} chains were seen to be complete after {:?}", begun.elapsed());
    assert_eq!(both.machinery.log(), "");
    both.once(chains.iter().flatten()).await;
}
