//! What stands behind a task: the joins it belongs to, and the tasks that can never run once it has ended badly. Pure policy,
//! no store and no clock.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use crate::backend::StateWrite;
use crate::clock::WallTime;
use crate::ledger::join::{Callback, Ended, Head, Kind, Opening};
use crate::service::envelope;
use crate::service::outcome::bare_state;
use crate::service::types::Settings;
use crate::task::{Body, FailureReason, GroupId, MessageKey, Signature, Status, TaskId, TaskState};
use crate::wire;

/// The longest error text that is quoted, bytes: it stands in each of the tasks that never run.
const CAUSE_BYTES_MAX: usize = 1024;

/// What the end of a task means for others.
#[derive(Debug, Default)]
pub(in crate::service) struct Consequences {
    /// Tasks that are sent by the same end: one that is to follow success and failure alike runs.
    pub(in crate::service) sent: HashSet<TaskId>,
    /// Ends of tasks that can never run.
    pub(in crate::service) states: Vec<StateWrite>,
    /// Members of joins that end with it.
    pub(in crate::service) joins: Vec<Ended>,
    /// Joins among them that another program began.
    pub(in crate::service) opens: Vec<Opening>,
}

/// Why a task never runs: the text of its FAILURE.
pub(in crate::service) fn not_run(task: &str, error: &str) -> String {
    let cut = &error[..error.floor_char_boundary(CAUSE_BYTES_MAX)];
    format!("lineshaft: not run: task {task} ended in FAILURE: {cut}")
}

impl Consequences {
    /// The task itself has ended so.
    pub(in crate::service) fn member(&mut self, signature: &Signature, state: &TaskState, now: WallTime) {
        let ours = envelope::join(signature);
        let theirs = foreign(signature, ours.as_ref(), now);
        if ours.is_none() && theirs.is_none() {
            return;
        }
        let outcome = wire::machinery::encode_state(state);
        let is_failure = state.status == Status::Failure;
        for group in ours.into_iter().chain(theirs.as_ref().map(|opening| opening.head.id.clone())) {
            self.joins.push(Ended { group, task: state.task_id.clone(), is_failure, outcome: outcome.clone() });
        }
        self.opens.extend(theirs);
    }

    /// `signature` never runs, nor do the tasks that would follow its success. `since`: no sending of them is earlier.
    pub(in crate::service) fn never_runs(
        &mut self,
        signature: Signature,
        cause: &str,
        since: u64,
        now: WallTime,
        settings: &Settings,
    ) {
        let mut left = vec![signature];
        while let Some(signature) = left.pop() {
            // Without an id nobody can wait for it.
            if self.sent.contains(signature.uuid.as_str()) {
                continue;
            }
            if !signature.uuid.is_empty() {
                let (state, keep) = ended_unrun(&signature, cause, since, now, settings);
                self.member(&signature, &state, now);
                self.states.push(StateWrite { state, keep });
            }
            left.extend(signature.on_success.iter().flatten().filter_map(read));
        }
    }
}

/// What would have followed the success of a task.
pub(in crate::service) fn read(body: &Body) -> Option<Signature> {
    Some(wire::machinery::decode(&body.0).ok()?.signature)
}

/// Which sending of a task it is that was announced with what comes before it; 0: it was not announced.
pub(in crate::service) fn announced(signature: &Signature) -> u64 {
    envelope::generation(signature)
}

fn ended_unrun(
    signature: &Signature,
    cause: &str,
    since: u64,
    now: WallTime,
    settings: &Settings,
) -> (TaskState, Duration) {
    let generation = match announced(signature) {
        0 => now.0.max(since),
        announced => announced.max(since),
    };
    let task = TaskId::trusted(signature.uuid.as_str());
    let state = bare_state(signature, &task, Status::Failure, 1, now);
    let created_at = crate::task::Timestamp::from_wall(WallTime(generation));
    let state = TaskState { error: cause.to_owned(), reason: FailureReason::NotRun, generation, created_at, ..state };
    (state, envelope::result_retention(signature).unwrap_or(settings.results_expire_in))
}

/// The chord of another program that a task belongs to, as far as its body tells.
fn foreign(signature: &Signature, ours: Option<&GroupId>, now: WallTime) -> Option<Opening> {
    let callback = signature.chord_callback.as_ref()?;
    let count = u32::try_from(signature.group_task_count).ok().filter(|count| *count > 0)?;
    let is_ours = ours.is_some_and(|ours| ours.as_str() == signature.group_uuid);
    if signature.group_uuid.is_empty() || is_ours {
        return None;
    }
    let head = Head {
        id: GroupId::trusted(signature.group_uuid.as_str()),
        kind: Kind::Chord,
        generation: 0,
        message: MessageKey::generate(),
        digest: [0; 32],
        count,
        callback: Some(Callback { body: Bytes::clone(&callback.0), is_always: false }),
        at: now,
        is_shared: true,
        keep: Duration::ZERO,
    };
    Some(Opening { head, members: Vec::new(), is_sending: false, look_at: now })
}
