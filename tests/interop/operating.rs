//! Everything an operator can ask of a queue that a Machinery worker takes from, while it goes on.

use std::collections::BTreeSet;

use lineshaft_client::proto::*;
use lineshaft_client::{Client, Failure, Task as NewTask};
use serde_json::{Value, json};

use crate::go;
use crate::ours::{self, Seen};
use crate::support::until;
use crate::support::until::DEADLINE;
use crate::world::*;

/// What only Machinery's worker runs.
const THEIRS: &str = "go_work";
/// Tasks of Machinery's producer, and as many of ours.
const EACH: usize = 200;

/// Fills the queue with tasks for Machinery's worker, half of them sent by its producer; answers their ids.
async fn fill(world: &World) -> BTreeSet<String> {
    let tasks: Vec<Value> = (0..EACH).map(|n| go::task(THEIRS, &[("int64", json!(n))])).collect();
    let mut ids: BTreeSet<String> = go::send(world, &tasks).await.into_iter().collect();
    let own: Vec<NewTask> = (0..EACH as i64).map(|n| NewTask::new(THEIRS).arg(n)).collect();
    for sent in world.client.send_all(own).await {
        ids.insert(sent.unwrap().id().to_owned());
    }
    assert_eq!(ids.len(), 2 * EACH);
    ids
}

async fn queue(client: &Client) -> Queue {
    let request = GetQueueRequest { queue: QUEUE.into() };
    client.queue_service().get_queue(request).await.unwrap().into_inner().queue.unwrap()
}

async fn purge(world: &World, request: PurgeQueueRequest) -> u64 {
    let (mut purged, mut page_token) = (0, String::new());
    loop {
        let request = PurgeQueueRequest { queue: QUEUE.into(), page_token, ..request.clone() };
        let page = world.queues().purge_queue(request).await.unwrap().into_inner();
        purged += page.purged;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return purged;
        }
    }
}

/// Each of these ran once at Machinery's worker, which had nothing to say.
async fn ran_once(machinery: &go::Worker, ids: &BTreeSet<String>) {
    for event in ["start", "end"] {
        // What it writes down may come after the result.
        let seen = machinery.saw(event, ids.len()).await;
        assert_eq!(seen.len(), ids.len(), "{event}: none twice");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), *ids, "{event}");
    }
    assert_eq!(machinery.log(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_takes_nothing_from_machinery_and_shows_each_message_once() {
    needs_machinery!();
    let world = World::new().await;
    let ids = fill(&world).await;
    let shown = queue(&world.client).await;
    assert_eq!((shown.waiting, shown.delayed, shown.leased), (2 * EACH as u64, 0, 0));
    let machinery = go::Worker::start(&world, "go", 2, &[THEIRS]).await;
    until("all ran", async || {
        let mut queues = world.queues();
        let listed = queues.list_queues(ListQueuesRequest::default()).await.unwrap().into_inner().queues;
        assert!(listed.iter().all(|queue| queue.name != QUEUE || queue.others_may_take));
        assert!(queues.list_leases(ListLeasesRequest::default()).await.unwrap().into_inner().leases.is_empty());
        let dead = queues.list_dead_tasks(ListDeadTasksRequest::default()).await.unwrap().into_inner().dead_tasks;
        assert!(dead.is_empty());
        let (mut page_token, mut met) = (String::new(), BTreeSet::new());
        loop {
            let request =
                GetPendingTasksRequest { queue: QUEUE.into(), include_delayed: true, page_size: 7, page_token };
            let page = queues.get_pending_tasks(request).await.unwrap().into_inner();
            for pending in page.tasks {
                let id = pending.task.unwrap().id;
                assert!(ids.contains(&id) && met.insert(id.clone()), "{id} is met twice, or was never sent");
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        (machinery.tasks("end").len() >= ids.len()).then_some(())
    })
    .await;
    ran_once(&machinery, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stops_ours_while_machinery_goes_on() {
    needs_machinery!();
    let world = World::new().await;
    let seen = Seen::default();
    let worker = ours::run(ours::worker(&world).register_function("our_work", seen.echo()));
    // Both kinds are at work before.
    world.client.send(NewTask::new("our_work")).await.unwrap().get::<()>(DEADLINE).await.unwrap();
    let request = PauseQueueRequest { queue: QUEUE.into() };
    let paused = world.queues().pause_queue(request).await.unwrap().into_inner().queue.unwrap();
    assert!(paused.paused && paused.others_may_take);
    let own = world.client.send(NewTask::new("our_work")).await.unwrap();
    let ids = fill(&world).await;
    let machinery = go::Worker::start(&world, "go", 2, &[THEIRS, "add"]).await;
    machinery.saw("end", ids.len()).await;
    ran_once(&machinery, &ids).await;
    assert_eq!(seen.tasks().len(), 1, "ours stand still");
    assert!(!own.is_success().await.unwrap());
    let request = ResumeQueueRequest { queue: QUEUE.into() };
    assert!(!world.queues().resume_queue(request).await.unwrap().into_inner().queue.unwrap().paused);
    own.get::<()>(DEADLINE).await.unwrap();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_ends_what_machinery_did_not_take_whoever_sent_it() {
    needs_machinery!();
    let world = World::new().await;
    let mut ids = fill(&world).await;
    let mut late = go::task(THEIRS, &[("int64", json!(3))]);
    late["ETA"] = json!("2100-01-02T03:04:05.678901234Z");
    let late = go::send(&world, &[late]).await.remove(0);
    let dry = PurgeQueueRequest { dry_run: true, include_delayed: true, ..Default::default() };
    assert_eq!(purge(&world, dry).await, 2 * EACH as u64 + 1);
    let machinery = go::Worker::start(&world, "go", 2, &[THEIRS]).await;
    machinery.saw("start", 20).await;
    // Small pages, so that both take turns.
    let purged = purge(&world, PurgeQueueRequest { page_size: 16, ..Default::default() }).await;
    until("each has ended", async || (machinery.tasks("end").len() as u64 + purged >= ids.len() as u64).then_some(()))
        .await;
    let ran: BTreeSet<String> = machinery.tasks("end").into_iter().collect();
    assert_eq!(ran.len() as u64 + purged, ids.len() as u64, "{purged} purged");
    assert!(purged > 0 && ran.len() >= 20);
    assert_eq!(go::delayed(&world).await, [late.as_str()], "what is delayed was not asked for");
    assert_eq!(purge(&world, PurgeQueueRequest { include_delayed: true, ..Default::default() }).await, 1);
    ids.insert(late);
    let ids: Vec<String> = ids.into_iter().collect();
    for (id, ended) in ids.iter().zip(go::results(&world, &ids).await) {
        match ran.contains(id) {
            true => assert_eq!(ended.state, "SUCCESS", "{id}"),
            false => assert_eq!((ended.state.as_str(), ended.error.as_str()), ("FAILURE", "lineshaft: purged"), "{id}"),
        }
    }
    let mut connection = world.connection().await;
    assert_eq!(length(&mut connection, QUEUE).await, 0);
    // It goes on.
    let next = world.client.send(NewTask::new(THEIRS).arg(1i64)).await.unwrap();
    assert_eq!(next.get::<i64>(DEADLINE).await.unwrap(), 1);
    ran_once(&machinery, &ran.into_iter().chain([next.id().to_owned()]).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_task_is_requeued_to_machinery_and_another_is_deleted() {
    needs_machinery!();
    let world = World::with(&[("LINESHAFT_LEASES_KEEP_FAILED", "true")]).await;
    let failing = || async { Err::<(), _>(Failure::fatal("not here")) };
    let worker = ours::run(ours::worker(&world).register("succeed_here", failing).register("fail_here", failing));
    let requeued = world.client.send(NewTask::new("succeed_here")).await.unwrap();
    let deleted = go::send(&world, &[go::task("fail_here", &[])]).await.remove(0);
    assert!(requeued.wait(DEADLINE).await.unwrap().is_failure());
    assert_eq!(go::result(&world, &deleted).await.state, "FAILURE");
    worker.stop().await;
    // One that is no task, which ours alone set aside: a Machinery worker would lose what it took with it.
    let mut connection = world.connection().await;
    run(&mut connection, &["RPUSH", QUEUE, "no task"]).await;
    let worker = ours::run(ours::worker(&world).register("our_work", || async { Ok::<(), Failure>(()) }));
    let mut queues = world.queues();
    let dead = until("three are dead", async || {
        let listed = queues.list_dead_tasks(ListDeadTasksRequest::default()).await.unwrap().into_inner().dead_tasks;
        (listed.len() == 3).then_some(listed)
    })
    .await;
    worker.stop().await;
    let machinery = go::Worker::start(&world, "go", 2, &["succeed_here", THEIRS]).await;
    let dead_id = |id: &str| dead.iter().find(|dead| dead.task_id == id).unwrap().dead_id.clone();
    let request = RequeueDeadTasksRequest { dead_ids: vec![dead_id(requeued.id())], ..Default::default() };
    let outcome = queues.requeue_dead_tasks(request).await.unwrap().into_inner();
    assert_eq!(outcome.results[0].outcome(), DeadTaskOutcome::Done);
    assert_eq!(machinery.saw("end", 1).await, [requeued.id()]);
    until("its state tells", async || requeued.is_success().await.unwrap().then_some(())).await;
    assert_eq!(go::result(&world, requeued.id()).await.results, [("string".to_owned(), json!("done in Go"))]);
    let dead_ids = dead.iter().filter(|dead| dead.task_id != requeued.id()).map(|dead| dead.dead_id.clone());
    let request = DeleteDeadTasksRequest { dead_ids: dead_ids.collect(), ..Default::default() };
    queues.delete_dead_tasks(request).await.unwrap();
    assert!(queues.list_dead_tasks(ListDeadTasksRequest::default()).await.unwrap().into_inner().dead_tasks.is_empty());
    assert_eq!(go::result(&world, &deleted).await.error, "not here", "its state stays");
    let ids = fill(&world).await;
    machinery.saw("end", ids.len() + 1).await;
    ran_once(&machinery, &ids.into_iter().chain([requeued.id().to_owned()]).collect()).await;
}
