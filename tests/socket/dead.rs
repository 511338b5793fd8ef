//! `ListDeadTasks`, `RequeueDeadTasks` and `DeleteDeadTasks`.

use lineshaft_client::proto::*;

use crate::rooms::Room;
use crate::stubs::{Stubs, failure, success, task, text};
use crate::support::{InProcess, Refusal, refusal};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, dead:
            a_failed_task_is_listed_with_what_is_known_of_it
            a_dead_task_is_requeued_once_and_ends_under_its_old_id
            a_dry_run_tells_and_changes_nothing
            dead_tasks_are_requeued_and_deleted_by_filter_page_by_page
            what_cannot_be_is_refused_by_its_field
        );
    };
}
pub(crate) use cases;

async fn keeping(room: &Room) -> (InProcess, Stubs) {
    let server = room.serve_with(|config| config.leases.keep_failed = true).await;
    let stubs = Stubs::to(&server).await;
    (server, stubs)
}

async fn die(stubs: &Stubs, count: usize) {
    for i in 0..count {
        stubs.send(Task { args: vec![text("x")], ..task(&format!("t{i}")) }).await;
    }
    let mut left = count;
    while left > 0 {
        let (leases, _) = stubs.lease_many("n", left).await;
        for lease in &leases {
            stubs.record(lease, failure("broken")).await;
        }
        left -= leases.len();
    }
}

async fn list(stubs: &Stubs, filter: DeadTaskFilter) -> Vec<DeadTask> {
    let mut request = ListDeadTasksRequest { filter: Some(filter), page_size: 2, page_token: String::new() };
    let mut all = Vec::new();
    loop {
        let page = stubs.queues().list_dead_tasks(request.clone()).await.expect("is answered").into_inner();
        assert!(page.dead_tasks.len() <= 2);
        all.extend(page.dead_tasks);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

async fn requeue(stubs: &Stubs, request: RequeueDeadTasksRequest) -> RequeueDeadTasksResponse {
    stubs.queues().requeue_dead_tasks(request).await.expect("is answered").into_inner()
}

fn outcomes(results: &[DeadTaskResult]) -> Vec<DeadTaskOutcome> {
    results.iter().map(DeadTaskResult::outcome).collect()
}

fn by_id(dead: &DeadTask) -> RequeueDeadTasksRequest {
    RequeueDeadTasksRequest { dead_ids: vec![dead.dead_id.clone()], ..Default::default() }
}

pub(crate) async fn a_failed_task_is_listed_with_what_is_known_of_it(room: Room) {
    let (_server, stubs) = keeping(&room).await;
    die(&stubs, 1).await;
    let dead = list(&stubs, DeadTaskFilter::default()).await.remove(0);
    assert_eq!((dead.task_id.as_str(), dead.task_name.as_str(), dead.attempts), ("t0", "n", 1));
    assert_eq!((dead.queue.as_str(), dead.error.as_str()), ("machinery_tasks", "broken"));
    assert_eq!(dead.reason(), FailureReason::Failed);
    assert!(dead.died_at.is_some() && !dead.requeue_begun && dead.undecodable.is_empty());
    let task = dead.task.expect("is a task");
    assert_eq!((task.id.as_str(), task.queue.as_str(), task.args.len()), ("t0", "machinery_tasks", 1));
    assert!(task.headers.is_empty(), "ours are not shown");
    let fits = async |filter| list(&stubs, filter).await.len();
    assert_eq!(fits(DeadTaskFilter { reason: FailureReason::Failed.into(), ..Default::default() }).await, 1);
    assert_eq!(fits(DeadTaskFilter { reason: FailureReason::Poison.into(), ..Default::default() }).await, 0);
    assert_eq!(fits(DeadTaskFilter { task_id: "t0".into(), ..Default::default() }).await, 1);
    assert_eq!(fits(DeadTaskFilter { died_since: dead.died_at, ..Default::default() }).await, 1);
    assert_eq!(fits(DeadTaskFilter { died_before: dead.died_at, ..Default::default() }).await, 0);
}

pub(crate) async fn a_dead_task_is_requeued_once_and_ends_under_its_old_id(room: Room) {
    let (_server, stubs) = keeping(&room).await;
    die(&stubs, 1).await;
    let dead = list(&stubs, DeadTaskFilter::default()).await.remove(0);
    let request = RequeueDeadTasksRequest { retry_count: Some(3), ..by_id(&dead) };
    let first = requeue(&stubs, request.clone()).await;
    assert_eq!(outcomes(&first.results), [DeadTaskOutcome::Done]);
    assert_eq!((first.results[0].task_id.as_str(), first.results[0].dead_id.as_str()), ("t0", dead.dead_id.as_str()));
    assert_eq!(outcomes(&requeue(&stubs, request).await.results), [DeadTaskOutcome::Unknown]);
    let (leases, _) = stubs.lease_many("n", 1).await;
    assert_eq!((leases.len(), leases[0].attempt, leases[0].retries_left), (1, 1, 3));
    stubs.record(&leases[0], success([])).await;
    stubs.until("t0", TaskStatus::Success).await;
    assert!(list(&stubs, DeadTaskFilter::default()).await.is_empty());
}

pub(crate) async fn a_dry_run_tells_and_changes_nothing(room: Room) {
    let (_server, stubs) = keeping(&room).await;
    die(&stubs, 1).await;
    let dead = list(&stubs, DeadTaskFilter::default()).await;
    let dry = requeue(&stubs, RequeueDeadTasksRequest { dry_run: true, ..by_id(&dead[0]) }).await;
    assert_eq!(outcomes(&dry.results), [DeadTaskOutcome::Done]);
    let dead_ids = vec![dead[0].dead_id.clone(), "other".into()];
    let request = DeleteDeadTasksRequest { dead_ids, dry_run: true, ..Default::default() };
    let dry = stubs.queues().delete_dead_tasks(request).await.expect("is answered").into_inner();
    assert_eq!(outcomes(&dry.results), [DeadTaskOutcome::Done, DeadTaskOutcome::Unknown]);
    assert_eq!(list(&stubs, DeadTaskFilter::default()).await, dead);
}

pub(crate) async fn dead_tasks_are_requeued_and_deleted_by_filter_page_by_page(room: Room) {
    let (_server, stubs) = keeping(&room).await;
    die(&stubs, 5).await;
    let one = DeadTaskFilter { task_id: "t3".into(), ..Default::default() };
    let request = DeleteDeadTasksRequest { filter: Some(one), ..Default::default() };
    let deleted = stubs.queues().delete_dead_tasks(request).await.expect("is answered").into_inner();
    assert_eq!((deleted.results.len(), deleted.results[0].task_id.as_str()), (1, "t3"));
    let mut request =
        RequeueDeadTasksRequest { filter: Some(DeadTaskFilter::default()), page_size: 3, ..Default::default() };
    let mut requeued = Vec::new();
    loop {
        let page = requeue(&stubs, request.clone()).await;
        assert!(page.results.len() <= 3);
        requeued.extend(page.results.into_iter().map(|result| result.task_id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    requeued.sort();
    assert_eq!(requeued, ["t0", "t1", "t2", "t4"]);
    assert!(list(&stubs, DeadTaskFilter::default()).await.is_empty());
}

pub(crate) async fn what_cannot_be_is_refused_by_its_field(room: Room) {
    let (_server, stubs) = keeping(&room).await;
    let listed = async |request| refusal(&stubs.queues().list_dead_tasks(request).await.expect_err("is refused"));
    let size = ListDeadTasksRequest { page_size: 1001, ..Default::default() };
    assert_eq!(listed(size).await, Refusal::limit("page_size"));
    let filter = Some(DeadTaskFilter { queue: "a b".into(), ..Default::default() });
    let queue = ListDeadTasksRequest { filter: filter.clone(), ..Default::default() };
    assert_eq!(listed(queue).await, Refusal::invalid("filter.queue"));
    let token = ListDeadTasksRequest { page_token: "20".into(), ..Default::default() };
    assert_eq!(listed(token).await, Refusal::invalid("page_token"));
    let sent = async |request| refusal(&stubs.queues().requeue_dead_tasks(request).await.expect_err("is refused"));
    assert_eq!(sent(RequeueDeadTasksRequest::default()).await, Refusal::invalid("dead_ids"));
    let both = RequeueDeadTasksRequest { filter, dead_ids: vec!["a".into()], ..Default::default() };
    assert_eq!(sent(both).await, Refusal::invalid("dead_ids"));
    let all = Some(DeadTaskFilter::default());
    let token = RequeueDeadTasksRequest { filter: all, page_token: "0011".into(), ..Default::default() };
    assert_eq!(sent(token).await, Refusal::invalid("page_token"));
    let many =
        RequeueDeadTasksRequest { dead_ids: vec!["a".into()], retry_count: Some(1_000_001), ..Default::default() };
    assert_eq!(sent(many).await, Refusal::limit("retry_count"));
    let delete = DeleteDeadTasksRequest { dead_ids: vec![String::new()], ..Default::default() };
    let status = stubs.queues().delete_dead_tasks(delete).await.expect_err("is refused");
    assert_eq!(refusal(&status), Refusal::invalid("dead_ids[0]"));
}
