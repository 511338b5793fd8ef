//! `SendGroup`, `SendChain`, `SendChord`, `GetGroup`, `CancelGroup`, and `WatchState` of a group.

use std::future::Future;

use lineshaft_client::proto::*;
use tonic::{Code, Status, Streaming};

use crate::rooms::Room;
use crate::stubs::{Stubs, failure, lease_request, named, success, task, text};
use crate::support::until::soon;
use crate::support::{Refusal, refusal, until};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, groups:
            a_group_runs_beside_each_other_and_is_told_whole
            a_chain_hands_results_on_and_its_last_task_has_them
            a_chord_hands_all_results_to_its_callback
            a_failure_ends_what_is_behind_it_as_not_run
            a_group_is_sent_once_under_its_names
            a_group_is_shown_a_page_at_a_time
            a_watch_tells_how_far_a_group_is_and_ends_with_it
            a_group_is_cancelled_whole
            a_workflow_that_is_not_as_it_must_be_is_refused_by_name
            a_group_that_is_unknown_is_an_answer_of_its_own
        );
    };
}
pub(crate) use cases;

fn group(tasks: impl IntoIterator<Item = Task>) -> SendGroupRequest {
    SendGroupRequest { group_id: "g".into(), tasks: tasks.into_iter().collect(), ..Default::default() }
}

async fn send(stubs: &Stubs, request: SendGroupRequest) -> SendGroupResponse {
    stubs.tasks().send_group(request).await.expect("is accepted").into_inner()
}

async fn get(stubs: &Stubs, page_size: u32, page_token: &str) -> GetGroupResponse {
    let request = GetGroupRequest { group_id: "g".into(), page_size, page_token: page_token.into() };
    stubs.tasks().get_group(request).await.expect("is known").into_inner()
}

async fn watch(stubs: &Stubs) -> Streaming<WatchStateResponse> {
    let request = WatchStateRequest { group_id: "g".into(), ..Default::default() };
    stubs.tasks().watch_state(request).await.expect("is watched").into_inner()
}

async fn told(watch: &mut Streaming<WatchStateResponse>) -> Option<Group> {
    let told = soon("the watch tells", watch.message()).await.expect("the watch lives");
    told.map(|told| told.group.expect("a group is watched"))
}

/// Waits until all have ended.
async fn ended(stubs: &Stubs) -> Group {
    let mut watch = watch(stubs).await;
    loop {
        let group = told(&mut watch).await.expect("is completed before the end");
        if group.completed {
            return group;
        }
    }
}

fn counts(group: &Group) -> (GroupKind, [u32; 3], bool) {
    (group.kind(), [group.total, group.ended, group.failed], group.completed)
}

pub(crate) async fn a_group_runs_beside_each_other_and_is_told_whole(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let request = SendGroupRequest { group_id: String::new(), ..group(["a", "b", "c"].map(task)) };
    let sent = send(&stubs, request).await;
    assert!(sent.group_id.starts_with("group_"), "{sent:?}");
    assert!(!sent.already_sent && sent.task_ids.is_empty(), "it named all ids itself: {sent:?}");
    let sent = send(&stubs, group([task("d"), named("n")])).await;
    assert_eq!((sent.group_id.as_str(), sent.task_ids.len(), sent.task_ids[0].as_str()), ("g", 2, "d"));
    let before = get(&stubs, 0, "").await;
    let shown = before.group.expect("is always set");
    assert_eq!(counts(&shown), (GroupKind::Group, [2, 0, 0], false));
    assert!(shown.created_at.is_some() && shown.callback.is_none());
    assert_eq!(before.tasks.iter().map(|state| state.task_id.clone()).collect::<Vec<_>>(), sent.task_ids);
    assert!(before.tasks.iter().all(|state| state.status() == TaskStatus::Pending));
    let (leases, _) = stubs.lease_many("n", 5).await;
    for lease in &leases {
        stubs.record(lease, success([text("x")])).await;
    }
    assert_eq!(counts(&ended(&stubs).await), (GroupKind::Group, [2, 2, 0], true));
    assert!(get(&stubs, 0, "").await.tasks.iter().all(|state| state.status() == TaskStatus::Success));
}

pub(crate) async fn a_chain_hands_results_on_and_its_last_task_has_them(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let own = Task { args: vec![text("own")], immutable: true, ..task("b") };
    let tasks = vec![task("a"), own, task("c")];
    let request = SendChainRequest { group_id: "g".into(), tasks, ..Default::default() };
    stubs.tasks().send_chain(request).await.expect("is accepted");
    assert_eq!(stubs.state("c").await.status(), TaskStatus::Pending, "what is not sent yet is known");
    for (id, args, result) in [("a", vec![], "1"), ("b", vec![text("own"), text("1")], "2"), ("c", vec![], "3")] {
        let lease = stubs.lease("n").await;
        assert_eq!((lease.task_id.as_str(), &lease.args), (id, &args));
        stubs.record(&lease, success([text(result)])).await;
    }
    assert_eq!(counts(&ended(&stubs).await), (GroupKind::Chain, [3, 3, 0], true));
    assert_eq!(stubs.end("c").await.results, [text("3")]);
}

fn chord(tasks: impl IntoIterator<Item = Task>, always: bool) -> SendChordRequest {
    let (group_id, callback) = ("g".into(), Some(Task { id: "end".into(), ..named("end") }));
    SendChordRequest { group_id, tasks: tasks.into_iter().collect(), callback, always, ..Default::default() }
}

pub(crate) async fn a_chord_hands_all_results_to_its_callback(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let sent = stubs.tasks().send_chord(chord(["a", "b"].map(task), false)).await.expect("is accepted").into_inner();
    assert_eq!((sent.group_id.as_str(), sent.callback_id.as_str()), ("g", "end"));
    let (mut leases, _) = stubs.lease_many("n", 2).await;
    // Ended in the other order than they were sent.
    leases.sort_by(|a, b| b.task_id.cmp(&a.task_id));
    for lease in &leases {
        stubs.record(lease, success([text(&lease.task_id)])).await;
    }
    let callback = stubs.lease("end").await;
    assert_eq!(callback.args, [text("a"), text("b")]);
    let group = get(&stubs, 0, "").await.group.expect("is always set");
    assert_eq!(counts(&group), (GroupKind::Chord, [2, 2, 0], false), "the callback has not ended");
    stubs.record(&callback, success([text("x")])).await;
    let end = ended(&stubs).await;
    assert_eq!(end.callback.map(|state| (state.task_id, state.results)), Some(("end".into(), vec![text("x")])));
}

pub(crate) async fn a_failure_ends_what_is_behind_it_as_not_run(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.tasks().send_chord(chord(["a"].map(task), false)).await.expect("is accepted");
    let lease = stubs.lease("n").await;
    stubs.record(&lease, failure("broken")).await;
    assert_eq!(counts(&ended(&stubs).await), (GroupKind::Chord, [1, 1, 1], true));
    assert_eq!(stubs.end("end").await.failure_reason(), FailureReason::NotRun);

    let tasks = ["x", "y"].map(task).to_vec();
    let request = SendChainRequest { tasks, ..Default::default() };
    let chain = stubs.tasks().send_chain(request).await.expect("is accepted").into_inner();
    assert!(chain.group_id.starts_with("chain_"), "{chain:?}");
    let lease = stubs.lease("n").await;
    stubs.record(&lease, failure("broken")).await;
    assert_eq!(stubs.end("y").await.failure_reason(), FailureReason::NotRun);

    let request = SendChordRequest { group_id: "always".into(), ..chord([task("z")], true) };
    let callback = Some(Task { id: "told".into(), ..named("end") });
    stubs.tasks().send_chord(SendChordRequest { callback, ..request }).await.expect("is accepted");
    let lease = stubs.lease("n").await;
    stubs.record(&lease, failure("broken")).await;
    let told = stubs.lease("end").await;
    let Some(arg::Value::StringValue(json)) = &told.args[0].value else { panic!("{told:?}") };
    assert!(json.contains("FAILURE") && json.contains("broken"), "{json}");
}

pub(crate) async fn a_group_is_sent_once_under_its_names(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let request =
        SendGroupRequest { request_id: "r".into(), group_id: String::new(), ..group([named("n"), named("n")]) };
    let first = send(&stubs, request.clone()).await;
    let again = send(&stubs, request.clone()).await;
    assert_eq!((&again.group_id, &again.task_ids, again.already_sent), (&first.group_id, &first.task_ids, true));
    let shown = GetGroupRequest { group_id: first.group_id.clone(), ..Default::default() };
    let shown = stubs.tasks().get_group(shown).await.expect("is known").into_inner();
    assert_eq!(shown.group.map(|group| group.total), Some(2));
    let (leases, session) = stubs.lease_many("n", 2).await;
    assert_ne!(leases[0].task_id, leases[1].task_id);
    let lease = LeaseTasksRequest { session: Some(session), wait_max: None, ..lease_request(&["n"], 1) };
    let more = stubs.workers().lease_tasks(lease).await.expect("is answered").into_inner();
    assert_eq!(more.leases.len(), 0, "each is sent once");
    let other = SendGroupRequest { tasks: vec![named("n")], ..request };
    let status = stubs.tasks().send_group(other).await.expect_err("is another");
    assert_eq!(refusal(&status), Refusal::new(Code::InvalidArgument, "REQUEST_ID_REUSED", "request_id"));
    send(&stubs, group([named("n")])).await;
    let status = stubs.tasks().send_group(group([named("n")])).await.expect_err("is known");
    assert_eq!(refusal(&status), Refusal::new(Code::AlreadyExists, "GROUP_EXISTS", "group_id"));
}

pub(crate) async fn a_group_is_shown_a_page_at_a_time(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let ids: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    send(&stubs, group(ids.iter().map(|id| task(id)))).await;
    for _ in &ids[..5] {
        let lease = stubs.lease("n").await;
        stubs.record(&lease, success([text(&"x".repeat(900 << 10))])).await;
        stubs.end(&lease.task_id).await;
    }
    for page_size in [0, 2, 6] {
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            // With the 4 MiB that a client takes by default.
            let page = get(&stubs, page_size, &token).await;
            seen.extend(page.tasks.into_iter().map(|state| state.task_id));
            pages += 1;
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ids, "pages of {page_size}");
        assert_eq!(pages, if page_size == 2 { 3 } else { 2 }, "pages of {page_size}");
    }
}

pub(crate) async fn a_watch_tells_how_far_a_group_is_and_ends_with_it(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let mut early = watch(&stubs).await;
    send(&stubs, group(["a", "b"].map(task))).await;
    assert_eq!(told(&mut early).await.map(|group| counts(&group)), Some((GroupKind::Group, [2, 0, 0], false)));
    let mut seen = Vec::new();
    for outcome in [success([]), failure("no")] {
        let lease = stubs.lease("n").await;
        stubs.record(&lease, outcome).await;
        seen.push(told(&mut early).await.map(|group| counts(&group).1));
    }
    let ends = [[2, 1, 0], [2, 1, 1]].map(Some);
    assert!(ends.contains(&seen[0]) && seen[1] == Some([2, 2, 1]), "{seen:?}");
    assert_eq!(told(&mut early).await, None, "it closes with OK");
    let mut late = watch(&stubs).await;
    assert!(told(&mut late).await.is_some_and(|group| group.completed));
    assert_eq!(told(&mut late).await, None);
}

pub(crate) async fn a_group_is_cancelled_whole(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.tasks().send_chord(chord(["a", "b", "c"].map(task), false)).await.expect("is accepted");
    let lease = stubs.lease("n").await;
    stubs.record(&lease, success([])).await;
    stubs.end(&lease.task_id).await;
    let cancel = async || {
        let request = CancelGroupRequest { group_id: "g".into() };
        stubs.tasks().cancel_group(request).await.expect("is known").into_inner()
    };
    let first = cancel().await;
    assert_eq!(first.ended, 1, "{first:?}");
    assert_eq!(first.removed + first.marked, 2, "{first:?}");
    // Where messages cannot be found by their tasks, they end when a server meets them on their way to a worker.
    until("all have ended", async || {
        let taken =
            stubs.workers().lease_tasks(lease_request(&["n", "end"], 10)).await.expect("is answered").into_inner();
        assert_eq!(taken.leases.len(), 0, "none of them is run any more");
        get(&stubs, 0, "").await.group.is_some_and(|group| group.completed).then_some(())
    })
    .await;
    let state = stubs.end("end").await;
    assert_eq!(state.status(), TaskStatus::Failure, "the callback too: {state:?}");
    let again = cancel().await;
    assert_eq!((again.removed, again.signalled, again.marked), (0, 0, 0), "{again:?}");
}

async fn refused<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Status>>, expected: Refusal) {
    assert_eq!(refusal(&call.await.expect_err("is refused")), expected);
}

pub(crate) async fn a_workflow_that_is_not_as_it_must_be_is_refused_by_name(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let key = Some(Idempotency { key: "k".into(), until: None });
    let bad = [
        (vec![], Refusal::invalid("tasks")),
        (vec![named("n"); 100_001], Refusal::limit("tasks")),
        (vec![named("n"), named("")], Refusal::invalid("tasks[1].name")),
        (vec![Task { request_id: "r".into(), ..named("n") }], Refusal::invalid("tasks[0].request_id")),
        (vec![Task { idempotency: key, ..named("n") }], Refusal::invalid("tasks[0].idempotency")),
        (vec![task("i"), named("n"), task("i")], Refusal::invalid("tasks[2].id")),
    ];
    for (tasks, expected) in bad {
        refused(stubs.tasks().send_group(group(tasks)), expected).await;
    }
    refused(
        stubs.tasks().send_group(SendGroupRequest { group_id: "a b".into(), ..group([named("n")]) }),
        Refusal::invalid("group_id"),
    )
    .await;
    refused(
        stubs.tasks().send_group(SendGroupRequest { request_id: "a b".into(), ..group([named("n")]) }),
        Refusal::invalid("request_id"),
    )
    .await;
    let chain = SendChainRequest { tasks: vec![named("n"); 1001], ..Default::default() };
    refused(stubs.tasks().send_chain(chain), Refusal::limit("tasks")).await;
    refused(
        stubs.tasks().send_chord(SendChordRequest { callback: None, ..chord([named("n")], false) }),
        Refusal::invalid("callback"),
    )
    .await;
    refused(stubs.tasks().send_chord(chord([task("end")], false)), Refusal::invalid("callback.id")).await;
    let empty = Some(Task { args: vec![Arg::default()], ..named("end") });
    refused(
        stubs.tasks().send_chord(SendChordRequest { callback: empty, ..chord([named("n")], false) }),
        Refusal::invalid("callback.args[0].value"),
    )
    .await;
    let unknown = Refusal::new(Code::NotFound, "GROUP_UNKNOWN", "");
    let get = GetGroupRequest { group_id: "g".into(), ..Default::default() };
    refused(stubs.tasks().get_group(get), unknown).await;

    refused(stubs.tasks().watch_state(WatchStateRequest::default()), Refusal::invalid("task_id")).await;
    let both = WatchStateRequest { task_id: "t".into(), group_id: "g".into() };
    refused(stubs.tasks().watch_state(both), Refusal::invalid("group_id")).await;
    send(&stubs, group([named("n")])).await;
    let get = |page_size, token: &str| GetGroupRequest { group_id: "g".into(), page_size, page_token: token.into() };
    refused(stubs.tasks().get_group(get(1001, "")), Refusal::limit("page_size")).await;
    refused(stubs.tasks().get_group(get(0, "zz")), Refusal::invalid("page_token")).await;
    refused(stubs.tasks().cancel_group(CancelGroupRequest::default()), Refusal::invalid("group_id")).await;
}

pub(crate) async fn a_group_that_is_unknown_is_an_answer_of_its_own(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let unknown = || Refusal::new(Code::NotFound, "GROUP_UNKNOWN", "");
    let get = GetGroupRequest { group_id: "never".into(), ..Default::default() };
    refused(stubs.tasks().get_group(get), unknown()).await;
    refused(stubs.tasks().cancel_group(CancelGroupRequest { group_id: "never".into() }), unknown()).await;
}
