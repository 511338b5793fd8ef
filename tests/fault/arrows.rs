//! A crash of the real process at every arrow, on the embedded store: once as it is, with sending and settling in one
//! transaction, and once with every step for itself, as on stores that are not one.

use std::time::Duration;

use lineshaft::failpoint::Point;
use lineshaft_client::proto::TaskStatus;
use lineshaft_client::{Client, Task};

use super::checker::{self, Life};
use super::processes::{Program, Server, until};

const DONE_MAX: Duration = Duration::from_secs(60);
const TASKS: usize = 12;
/// Leases on a store that is there, as those of a server of its own directory.
const LEASE_SECONDS: u64 = 2;

/// Arrows between steps that are one where the stores are fused.
pub(super) const WITHIN_ONE_STEP: [Point; 7] = [
    Point::SendClaimed,
    Point::SendLimited,
    Point::SendStated,
    Point::SendUnmarked,
    Point::SettleStated,
    Point::SettlePublished,
    Point::SettleDone,
];

#[test]
fn the_embedded_store_survives_a_crash_at_every_arrow() {
    // It also acknowledges in that step.
    let is_there = |point: &Point| !WITHIN_ONE_STEP.contains(point) && *point != Point::SettleAcked;
    Point::ALL.into_iter().filter(is_there).for_each(|point| crash_at(point, "", None));
}

#[test]
fn separate_steps_survive_a_crash_at_every_arrow() {
    Point::ALL.into_iter().for_each(|point| crash_at(point, "unfused,", None));
}

/// `store`: where the replica keeps everything; unset: in a directory of its own.
pub(super) fn crash_at(point: Point, mode: &str, store: Option<&str>) {
    println!("{}{}", mode, point.name());
    // Acknowledgements travel together: few times, however many tasks end.
    let visit = if point == Point::SettleAcked { 1 } else { 3 };
    let plan = format!("{mode}{}=abort@{visit}", point.name());
    let env = [("LINESHAFT_FAILPOINTS", plan.as_str())];
    let mut server = store.map_or_else(|| Server::start(&env), |store| Server::replica(store, LEASE_SECONDS, &env));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("starts");
    // Workers that die with their leases, for the arrows of expiry; their tasks are run again by the one that stays.
    let mut lives = Vec::new();
    let expiry = matches!(point, Point::ExpireClosed | Point::ReleaseEnded);
    let mut accepted = Vec::new();
    if expiry {
        for i in 0..3 {
            accepted.extend(runtime.block_on(send(&server.url(), &format!("doomed-{i}"), 60_000)));
            let mut doomed = Program::worker(&server, &format!("doomed-{i}"), 1);
            until("a start", DONE_MAX, || (checker::count(&doomed.file, "start") > 0).then_some(()));
            doomed.kill();
            lives.push(doomed);
        }
    }
    // Tasks that nobody takes yet, and that nobody shall: for the arrows of cancelling.
    let mut cancelled = Vec::new();
    if matches!(point, Point::CancelMarked | Point::CancelBegun) {
        for i in 0..3 {
            cancelled.extend(runtime.block_on(send(&server.url(), &format!("cancelled-{i}"), 0)));
        }
        runtime.block_on(async {
            let client = Client::connect(server.url()).await.expect("the server answers");
            for id in &cancelled {
                // The last one is not answered.
                let _ = client.result(id.as_str()).cancel().await;
            }
        });
    }
    // Tasks that nobody takes, each with a time of its own after which it is over: for the arrows of expiring.
    let mut late = Vec::new();
    if matches!(point, Point::SendLimited | Point::LapseBegun) {
        // More than are needed: two that are over in the same second reach the arrow once.
        late.extend((1..=8).map(|seconds| format!("late-{seconds}")));
        for id in &late {
            // The last one may not be answered.
            let _ = runtime.block_on(send_late(&server.url(), id));
        }
    }
    let mut unanswered = None;
    for i in 0..TASKS {
        let id = format!("task-{i}");
        let sent = runtime.block_on(send(&server.url(), &id, 0));
        if sent.is_none() {
            unanswered = Some(id);
        }
        accepted.extend(sent);
        if !server.runs() {
            break;
        }
    }
    // Slots for what runs for a minute, beside those for the rest.
    let slots = if expiry { 8 } else { 2 };
    let worker = (!expiry).then(|| Program::worker(&server, "worker", slots));
    assert!(server.ended(DONE_MAX), "{mode}{}: never reached", point.name());
    server.life(&[("LINESHAFT_FAILPOINTS", mode)]);
    // Whoever got no answer sends again under the same request id, and so does one who did.
    for id in unanswered.iter().chain(accepted.iter().rev().find(|id| id.starts_with("task-"))) {
        let again = runtime.block_on(send(&server.url(), id, 0));
        assert_eq!(again.as_ref(), Some(id), "{mode}{}", point.name());
    }
    accepted.extend(unanswered);
    for id in &late {
        let again = runtime.block_on(send_late(&server.url(), id));
        assert_eq!(again.as_ref(), Some(id), "{mode}{}", point.name());
    }
    let worker = worker.unwrap_or_else(|| Program::worker(&server, "worker", slots));
    // What runs for a minute only served to be lost.
    let (doomed, accepted): (Vec<String>, Vec<String>) = accepted.into_iter().partition(|id| id.starts_with("doomed"));
    let children: Vec<String> = accepted.iter().map(|id| format!("{id}-child")).collect();
    let all: Vec<String> = accepted.iter().chain(&children).cloned().collect();
    let ended = runtime.block_on(async {
        let client = Client::connect(server.url()).await.expect("the server answers");
        for id in &all {
            let state = client.result(id.as_str()).wait(DONE_MAX).await;
            let state = state.unwrap_or_else(|e| panic!("{mode}{}: {id}: {e}", point.name()));
            assert_eq!(state.status, TaskStatus::Success, "{mode}{}: {id}", point.name());
        }
        all.len()
    });
    assert_eq!(ended, 2 * accepted.len());
    runtime.block_on(async {
        let client = Client::connect(server.url()).await.expect("the server answers");
        // Only a broker that finds messages by their task ends those that nobody takes.
        let ended_unmet = late.iter().filter(|_| store.is_none());
        for id in cancelled.iter().chain(ended_unmet) {
            let state = client.result(id.as_str()).wait(DONE_MAX).await;
            let state = state.unwrap_or_else(|e| panic!("{mode}{}: {id}: {e}", point.name()));
            assert_eq!(state.status, TaskStatus::Failure, "{mode}{}: {id}", point.name());
        }
    });
    for id in cancelled.iter().chain(&late) {
        assert_eq!(checker::count(&worker.file, &format!("start {id}")), 0, "{mode}{}: {id} ran", point.name());
    }
    until("the last verdict", DONE_MAX, || {
        (checker::count(&worker.file, "verdict:Recorded") + checker::count(&worker.file, "verdict:Duplicate") >= ended)
            .then_some(())
    });
    until("the doomed elsewhere", DONE_MAX, || {
        let begun = doomed.iter().filter(|id| checker::count(&worker.file, &format!("start {id}")) > 0).count();
        (begun == doomed.len()).then_some(())
    });
    lives.push(worker);
    let lives: Vec<Life<'_>> = lives.iter().map(|w| Life { file: &w.file, killed_at: w.killed_at }).collect();
    let findings = checker::check(&lives);
    assert!(findings.ended_twice.is_empty() && findings.overlapped.is_empty(), "{}: {findings:?}", point.name());
}

/// Sends one task with a callback; its id if the server said that it has it.
async fn send(url: &str, id: &str, ms: i64) -> Option<String> {
    let client = Client::connect(url).await.ok()?;
    let child = Task::new("work").id(format!("{id}-child")).queue("fault").arg(0i64).immutable();
    // The result of the first is not passed on: the child takes one argument.
    let task = Task::new("work").id(id).queue("fault").arg(ms).immutable().on_success(child);
    let task = task.request_id(format!("send-{id}"));
    client.send(task).await.ok().map(|result| result.id().to_owned())
}

/// Sends one task to a queue from which nobody takes, to be begun within as many seconds as its id ends with.
async fn send_late(url: &str, id: &str) -> Option<String> {
    let client = Client::connect(url).await.ok()?;
    let seconds = id.rsplit('-').next().and_then(|seconds| seconds.parse().ok()).expect("ends with seconds");
    let task = Task::new("work").id(id).queue("late").expires_in(Duration::from_secs(seconds));
    client.send(task.request_id(format!("send-{id}"))).await.ok().map(|result| result.id().to_owned())
}
