//! `ListTasks`.

use lineshaft_client::proto::*;
use tonic::Code;

use crate::rooms::Room;
use crate::stubs::{Stubs, failure, success, task, text};
use crate::support::{Refusal, refusal};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, tasks:
            tasks_are_listed_in_the_order_of_their_lives_each_once_by_page
            every_field_of_a_filter_selects
            tasks_that_move_on_while_pages_are_read_are_met_again
            what_cannot_be_asked_is_refused_by_its_field
        );
    };
}
pub(crate) use cases;

async fn page(stubs: &Stubs, request: &ListTasksRequest) -> ListTasksResponse {
    stubs.tasks().list_tasks(request.clone()).await.expect("is answered").into_inner()
}

async fn list(stubs: &Stubs, filter: TaskFilter, page_size: u32) -> Vec<ListedTask> {
    let mut request = ListTasksRequest { filter: Some(filter), page_size, page_token: String::new() };
    let mut all = Vec::new();
    loop {
        let page = page(stubs, &request).await;
        assert!(page_size == 0 || page.tasks.len() <= page_size as usize);
        all.extend(page.tasks);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

fn ids(tasks: &[ListedTask]) -> Vec<&str> {
    tasks.iter().map(|task| task.state.as_ref().expect("is always set").task_id.as_str()).collect()
}

fn statuses(statuses: &[TaskStatus]) -> TaskFilter {
    TaskFilter { statuses: statuses.iter().map(|status| (*status).into()).collect(), ..Default::default() }
}

/// Two ended, one leased, two waiting in two queues.
async fn some(stubs: &Stubs) -> Lease {
    stubs.send(task("good")).await;
    let lease = stubs.lease("n").await;
    stubs.record(&lease, success([])).await;
    stubs.send(task("bad")).await;
    let lease = stubs.lease("n").await;
    stubs.record(&lease, failure("broken")).await;
    stubs.end("bad").await;
    stubs.send(Task { args: vec![text("held")], ..task("held") }).await;
    let lease = stubs.lease("n").await;
    stubs.send(Task { args: vec![text("needle")], name: "m".into(), queue: "q".into(), ..task("other") }).await;
    stubs.send(Task { args: vec![text("hay")], ..task("first") }).await;
    lease
}

pub(crate) async fn tasks_are_listed_in_the_order_of_their_lives_each_once_by_page(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    some(&stubs).await;
    for page_size in [0, 1, 2, 1000] {
        let all = list(&stubs, TaskFilter::default(), page_size).await;
        assert_eq!(ids(&all), ["first", "other", "held", "bad", "good"]);
        let [first, other, held, bad, good] = all.as_slice() else { panic!("{all:?}") };
        let state = |listed: &ListedTask| listed.state.clone().expect("is always set");
        assert_eq!((state(first).status(), first.queue.as_str()), (TaskStatus::Pending, "machinery_tasks"));
        assert_eq!((state(first).attempt, other.queue.as_str()), (1, "q"));
        assert_eq!(first.task.as_ref().expect("has a body").args[0].value, text("hay").value);
        assert!(state(first).created_at.is_some());
        assert_eq!((state(held).status(), held.worker.is_empty()), (TaskStatus::Received, false));
        assert_eq!(held.task.as_ref().expect("has a body").args[0].value, text("held").value);
        assert_eq!((state(bad).status(), state(bad).error.as_str()), (TaskStatus::Failure, "broken"));
        assert_eq!((state(good).status(), good.queue.as_str(), &good.task), (TaskStatus::Success, "", &None));
    }
}

pub(crate) async fn every_field_of_a_filter_selects(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    some(&stubs).await;
    let ended = list(&stubs, statuses(&[TaskStatus::Success, TaskStatus::Failure]), 1).await;
    assert_eq!(ids(&ended), ["bad", "good"]);
    let failed = TaskFilter { failure_reason: FailureReason::Failed.into(), ..Default::default() };
    assert_eq!(ids(&list(&stubs, failed, 1).await), ["bad"]);
    let received = list(&stubs, statuses(&[TaskStatus::Received]), 1).await;
    assert_eq!(ids(&received), ["held"]);
    if !room.inspects {
        // Unasked, what cannot be listed is left out.
        assert_eq!(ids(&list(&stubs, TaskFilter::default(), 1).await), ["held", "bad", "good"]);
        let request = ListTasksRequest { filter: Some(statuses(&[TaskStatus::Pending])), ..Default::default() };
        let refused = refusal(&stubs.tasks().list_tasks(request).await.expect_err("is refused"));
        assert_eq!(refused, Refusal::new(Code::Unimplemented, "CAPABILITY_MISSING", ""));
        return;
    }
    let queue = TaskFilter { queue: "q".into(), ..Default::default() };
    assert_eq!(ids(&list(&stubs, queue, 1).await), ["other"]);
    let name = TaskFilter { task_name: "n".into(), ..Default::default() };
    assert_eq!(ids(&list(&stubs, name, 1).await), ["first", "held", "bad", "good"]);
    let args = TaskFilter { args_contain: "\"needle".into(), ..Default::default() };
    assert_eq!(ids(&list(&stubs, args, 1).await), ["other"]);
    let all = list(&stubs, TaskFilter::default(), 0).await;
    let sent = all[0].state.clone().expect("is always set").created_at;
    let since = TaskFilter { sent_since: sent, ..Default::default() };
    assert_eq!(ids(&list(&stubs, since, 1).await), ["first"]);
    let before = TaskFilter { sent_before: sent, ..Default::default() };
    assert_eq!(ids(&list(&stubs, before, 1).await), ["other", "held", "bad", "good"]);
}

pub(crate) async fn tasks_that_move_on_while_pages_are_read_are_met_again(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c", "d"]).await;
    let mut request = ListTasksRequest { page_size: 1, ..Default::default() };
    let mut found = Vec::new();
    let (mut leases, mut step) = (Vec::new(), 0);
    loop {
        let page = page(&stubs, &request).await;
        found.extend(ids(&page.tasks).into_iter().map(str::to_owned));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        step += 1;
        match step {
            // Behind the first page all are leased, and one after the other ends.
            1 => leases = stubs.lease_many("n", 4).await.0,
            _ => {
                if let Some(lease) = leases.pop() {
                    stubs.record(&lease, success([])).await;
                    stubs.end(&lease.task_id).await;
                }
            }
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found, ["a", "b", "c", "d"]);
}

pub(crate) async fn what_cannot_be_asked_is_refused_by_its_field(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    some(&stubs).await;
    let ended = statuses(&[TaskStatus::Success, TaskStatus::Failure]);
    let first = page(&stubs, &ListTasksRequest { filter: Some(ended), page_size: 1, page_token: String::new() }).await;
    let other = Some(statuses(&[TaskStatus::Success]));
    let long = Some(TaskFilter { args_contain: "a".repeat(201), ..Default::default() });
    let unknown = Some(TaskFilter { statuses: vec![99], ..Default::default() });
    for (request, refused) in [
        (ListTasksRequest { page_size: 1001, ..Default::default() }, Refusal::limit("page_size")),
        (ListTasksRequest { page_token: "20".into(), ..Default::default() }, Refusal::invalid("page_token")),
        // The position belongs to another filter.
        (
            ListTasksRequest { filter: other, page_token: first.next_page_token, ..Default::default() },
            Refusal::invalid("page_token"),
        ),
        (ListTasksRequest { filter: long, ..Default::default() }, Refusal::limit("filter.args_contain")),
        (ListTasksRequest { filter: unknown, ..Default::default() }, Refusal::invalid("filter.statuses[0]")),
    ] {
        assert_eq!(refusal(&stubs.tasks().list_tasks(request).await.expect_err("is refused")), refused);
    }
}
