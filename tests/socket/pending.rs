//! `GetPendingTasks`.

use std::collections::HashMap;
use std::time::Duration;

use lineshaft_client::proto::*;
use tonic::Code;
use tonic_types::StatusExt;

use crate::rooms::Room;
use crate::stubs::{Stubs, ids, named, span, task, text};
use crate::support::{Refusal, refusal, until};
use crate::talk::Talk;

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, pending:
            a_broker_that_cannot_be_looked_into_says_so
            what_waits_is_listed_in_the_order_of_leasing_and_stays_as_it_was
            pages_are_cut_by_position
            a_page_has_a_hundred_tasks_unless_told_and_ends_early_when_large
            delayed_tasks_are_listed_on_request_after_those_that_are_due
            a_task_that_nobody_takes_is_shown_as_unclaimed
            a_listed_task_is_as_it_was_sent
            only_the_queue_that_was_asked_about_is_listed
            a_page_that_cannot_be_is_refused
        );
    };
}
pub(crate) use cases;

fn page(size: u32) -> GetPendingTasksRequest {
    GetPendingTasksRequest { page_size: size, ..Default::default() }
}

fn listed(page: &GetPendingTasksResponse) -> Vec<String> {
    page.tasks.iter().map(|waiting| waiting.task.as_ref().expect("is a task").id.clone()).collect()
}

/// Every page from this one on.
async fn all(stubs: &Stubs, mut request: GetPendingTasksRequest) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let answer = stubs.pending(request.clone()).await;
        assert!(answer.tasks.len() <= request.page_size as usize);
        all.extend(listed(&answer));
        if answer.next_page_token.is_empty() {
            return all;
        }
        request.page_token = answer.next_page_token;
    }
}

pub(crate) async fn a_broker_that_cannot_be_looked_into_says_so(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let answer = stubs.queues().get_pending_tasks(page(0)).await;
    if room.inspects {
        assert_eq!(answer.expect("is answered").into_inner(), GetPendingTasksResponse::default());
        return;
    }
    let status = answer.expect_err("is refused");
    assert_eq!(refusal(&status), Refusal::new(Code::Unimplemented, "CAPABILITY_MISSING", ""));
    let metadata = status.get_details_error_info().expect("details").metadata;
    assert!(metadata.get("combination").is_some_and(|c| c.contains(room.names[0])), "{metadata:?}");
    assert!(metadata.contains_key("capability"), "{metadata:?}");
}

pub(crate) async fn what_waits_is_listed_in_the_order_of_leasing_and_stays_as_it_was(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    for (i, priority) in [0, 3, 0, 9, 3, 0, 9].into_iter().enumerate() {
        let priority = if room.priorities { priority } else { 0 };
        stubs.send(Task { priority, ..task(&format!("t{i}")) }).await;
    }
    let order = all(&stubs, page(3)).await;
    let by_age = ["t0", "t1", "t2", "t3", "t4", "t5", "t6"];
    assert_eq!(order, if room.priorities { ["t3", "t6", "t1", "t4", "t0", "t2", "t5"] } else { by_age });
    for size in [1, 7, 1000] {
        assert_eq!(all(&stubs, page(size)).await, order, "looking changes nothing");
    }
    assert!(stubs.held().await.is_empty());
    let (leases, _) = stubs.lease_many("n", 5).await;
    assert_eq!(ids(&leases), order[..5]);
    assert!(leases.iter().all(|lease| lease.attempt == 1));
    assert_eq!(all(&stubs, page(3)).await, order[5..], "a leased task is not among them");
}

pub(crate) async fn pages_are_cut_by_position(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids((0..9).map(|i| format!("t{i}"))).await;
    let first = stubs.pending(page(3)).await;
    assert_eq!(listed(&first), ["t0", "t1", "t2"]);
    // Those of the first page leave, and others come.
    stubs.lease_many("n", 3).await;
    stubs.send(task("new")).await;
    let rest = all(&stubs, GetPendingTasksRequest { page_token: first.next_page_token, ..page(3) }).await;
    assert_eq!(rest, ["t3", "t4", "t5", "t6", "t7", "t8", "new"]);
}

pub(crate) async fn a_page_has_a_hundred_tasks_unless_told_and_ends_early_when_large(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids((0..101).map(|i| format!("t{i}"))).await;
    let first = stubs.pending(page(0)).await;
    assert_eq!(first.tasks.len(), 100);
    let second = stubs.pending(GetPendingTasksRequest { page_token: first.next_page_token, ..page(0) }).await;
    assert_eq!((listed(&second), second.next_page_token.as_str()), (vec!["t100".to_owned()], ""));

    let large = text(&"x".repeat(900_000));
    for i in 0..5 {
        stubs.send(Task { queue: "large".into(), args: vec![large.clone()], ..task(&format!("l{i}")) }).await;
    }
    let request = GetPendingTasksRequest { queue: "large".into(), ..page(1000) };
    let first = stubs.pending(request.clone()).await;
    assert!((1..5).contains(&first.tasks.len()), "{}", first.tasks.len());
    assert_eq!(all(&stubs, request).await, ["l0", "l1", "l2", "l3", "l4"]);
}

pub(crate) async fn delayed_tasks_are_listed_on_request_after_those_that_are_due(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let hours = |hours: u64| Some(span(Duration::from_secs(3600 * hours)));
    stubs.send(Task { delay: hours(2), ..task("second") }).await;
    stubs.send(Task { delay: hours(1), ..task("first") }).await;
    stubs.send_ids(["a", "b"]).await;
    assert_eq!(all(&stubs, page(1)).await, ["a", "b"]);
    let with = GetPendingTasksRequest { include_delayed: true, ..page(100) };
    let answer = stubs.pending(with.clone()).await;
    assert_eq!(listed(&answer), ["a", "b", "first", "second"]);
    let waits: Vec<bool> = answer.tasks.iter().map(|waiting| waiting.available_at.is_some()).collect();
    assert_eq!(waits, [false, false, true, true]);
    let of = |i: usize| answer.tasks[i].available_at.expect("is delayed").seconds;
    assert!((3590..=3610).contains(&(of(3) - of(2))), "an hour lies between them");
    assert_eq!(all(&stubs, GetPendingTasksRequest { page_size: 1, ..with }).await, ["a", "b", "first", "second"]);
}

pub(crate) async fn a_task_that_nobody_takes_is_shown_as_unclaimed(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(Task { name: "a".into(), ..task("a") }).await;
    stubs.send(Task { name: "b".into(), ..task("b") }).await;
    let unclaimed =
        async || -> Vec<bool> { stubs.pending(page(0)).await.tasks.iter().map(|waiting| waiting.unclaimed).collect() };
    assert_eq!(unclaimed().await, [true, true]);
    let (worker, _) = Talk::worker(&stubs, &["b"], 0).await;
    assert_eq!(unclaimed().await, [true, false]);
    drop(worker);
    until("nobody is there again", async || (unclaimed().await == [true, true]).then_some(())).await;
}

pub(crate) async fn a_listed_task_is_as_it_was_sent(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let number = Value { kind: Some(value::Kind::NumberValue("1.50".into())) };
    let sent = Task {
        queue: "q".into(),
        routing_key: "q".into(),
        args: vec![text("x"), crate::stubs::arg("int8", arg::Value::Int64Value(-1))],
        headers: HashMap::from([("h".to_owned(), number)]),
        priority: if room.priorities { 7 } else { 0 },
        retry_count: 3,
        retry_timeout: Some(span(Duration::from_secs(8))),
        immutable: true,
        on_success: vec![Task { on_error: vec![task("deep")], ..task("then") }],
        on_error: vec![Task { args: vec![text("y")], ..task("else") }],
        ..task("a")
    };
    stubs.send(sent.clone()).await;
    let request = GetPendingTasksRequest { queue: "q".into(), ..page(0) };
    let answer = stubs.pending(request).await;
    let mut shown = answer.tasks[0].task.clone().expect("is a task");
    assert_eq!(answer.tasks[0].undecodable, "");
    // Callbacks are shown with the routing key they were stored with.
    let callbacks = [&mut shown.on_success, &mut shown.on_error];
    for callback in callbacks.into_iter().flatten() {
        assert_eq!((callback.queue.as_str(), callback.routing_key.as_str()), ("", "machinery_tasks"));
        callback.routing_key.clear();
        callback.on_error.iter_mut().for_each(|deep| deep.routing_key.clear());
    }
    assert_eq!(shown, sent);
}

pub(crate) async fn only_the_queue_that_was_asked_about_is_listed(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    for queue in ["", "q", "q2"] {
        stubs.send(Task { queue: queue.into(), id: format!("in-{queue}"), ..named("n") }).await;
    }
    for (queue, id) in [("", "in-"), ("machinery_tasks", "in-"), ("q", "in-q"), ("q2", "in-q2")] {
        let request = GetPendingTasksRequest { queue: queue.into(), ..page(0) };
        assert_eq!(listed(&stubs.pending(request).await), [id]);
    }
    let nothing = GetPendingTasksRequest { queue: "unknown".into(), ..page(0) };
    assert!(stubs.pending(nothing).await.tasks.is_empty());
}

pub(crate) async fn a_page_that_cannot_be_is_refused(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let refused = async |request| refusal(&stubs.queues().get_pending_tasks(request).await.expect_err("is refused"));
    assert_eq!(refused(page(1001)).await, Refusal::limit("page_size"));
    let token = GetPendingTasksRequest { page_token: "nonsense".into(), ..page(0) };
    assert_eq!(refused(token).await, Refusal::invalid("page_token"));
    let queue = GetPendingTasksRequest { queue: "a b".into(), ..page(0) };
    assert_eq!(refused(queue).await, Refusal::invalid("queue"));
}
