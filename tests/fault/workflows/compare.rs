//! What the witnesses and the states tell, against what the plan says.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use lineshaft_client::proto::{FailureReason, GetQueueRequest, TaskStatus};
use lineshaft_client::{Client, Error, TaskState};
use tonic::Code;

use super::plan::{End, Ends};
use super::{Field, checker, processes};

/// After the last kill, until all has ended: ten times what it takes.
const END_MAX: Duration = Duration::from_secs(180);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Ids in one question.
const BATCH: usize = 500;
/// Findings that are told one by one.
const TOLD_MAX: usize = 20;

/// The final states of these tasks, as far as they come in time.
async fn finals(client: &Client, ids: impl IntoIterator<Item = String>) -> BTreeMap<String, TaskState> {
    let mut left: HashSet<String> = ids.into_iter().collect();
    let mut ended = BTreeMap::new();
    let deadline = tokio::time::Instant::now() + END_MAX;
    while !left.is_empty() && tokio::time::Instant::now() < deadline {
        let all: Vec<String> = left.iter().cloned().collect();
        for batch in all.chunks(BATCH) {
            let states = match client.states(batch.to_vec()).await {
                Ok(states) => states,
                // A server that was killed last of all may still read its log.
                Err(Error::Refused { code: Code::Unavailable, .. }) => continue,
                Err(error) => panic!("the server answers: {error:?}"),
            };
            let is_over = |state: &TaskState| matches!(state.status, TaskStatus::Success | TaskStatus::Failure);
            for state in states.into_iter().flatten().filter(is_over) {
                left.remove(&state.task_id);
                ended.insert(state.task_id.clone(), state);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    ended
}

/// What is wrong about one task; `None`: nothing.
fn wrong(id: &str, end: &End, state: Option<&TaskState>, given: &[String]) -> Option<String> {
    let Some(state) = state else { return Some(format!("{id}: never ended")) };
    let (status, is_unrun) = (state.status, state.failure_reason == FailureReason::NotRun);
    let (wanted, args) = match end {
        End::Succeeds(args) => (TaskStatus::Success, Some(args)),
        End::Fails(args) => (TaskStatus::Failure, Some(args)),
        End::Never => (TaskStatus::Failure, None),
    };
    if status != wanted || is_unrun != args.is_none() {
        return Some(format!("{id}: {state:?}, not {end:?}"));
    }
    match args {
        None if given.is_empty() => None,
        None => Some(format!("{id}: ran with {given:?}, and should not")),
        Some(_) if given.is_empty() => Some(format!("{id}: ended, and no worker began it")),
        Some(args) => {
            given.iter().find(|given| *given != args).map(|given| format!("{id}: ran with {given}, not {args}"))
        }
    }
}

impl Field {
    /// Waits until all has ended, and compares; answers the line that tells it. `strict`: no attempt may be begun again but
    /// after the death of its worker.
    pub(super) fn compare(&mut self, what: &str, strict: bool) -> String {
        let begun = processes::now();
        self.all_accepted();
        let expected = self.expected();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
        let (states, groups) = runtime.block_on(async {
            let client = Client::connect(self.servers[0].url()).await.expect("the server answers");
            let states = finals(&client, expected.keys().cloned()).await;
            let groups = self.uncompleted(&client, &expected).await;
            empty(&client).await;
            (states, groups)
        });
        let given = checker::given(&self.files());
        let wrongs: Vec<String> = expected
            .iter()
            .filter_map(|(id, end)| wrong(id, end, states.get(id), given.get(id).map_or(&[], Vec::as_slice)))
            .collect();
        let strangers: Vec<&String> = given.keys().filter(|id| !expected.contains_key(*id)).collect();
        // The last verdicts are on their way to the workers; what they would add is that they saw nothing twice.
        let found = self.findings();
        let line = format!(
            "{what}: {} workflows with {} tasks, {} wrong, {} ended twice, {} begun while the first lived, {} begun again, {} of \
             them though their worker lived, {} groups left; the last end {} ms after the last blow",
            self.workflows.len(),
            expected.len(),
            wrongs.len(),
            found.ended_twice.len(),
            found.overlapped.len(),
            found.again,
            found.again_though_alive.len(),
            groups.len(),
            (processes::now() - begun) / 1_000_000,
        );
        println!("{line}");
        assert!(wrongs.is_empty(), "{what}: {:#?}", &wrongs[..wrongs.len().min(TOLD_MAX)]);
        assert!(groups.is_empty(), "{what}: {:#?}", &groups[..groups.len().min(TOLD_MAX)]);
        assert!(strangers.is_empty(), "{what}: {strangers:?} ran");
        assert_eq!(found.ended_twice, Vec::<String>::new(), "{what}: ended twice");
        assert_eq!(found.overlapped, Vec::<String>::new(), "{what}: begun while the first lived");
        if strict {
            assert_eq!(found.again_though_alive, Vec::<String>::new(), "{what}: begun again though its worker lived");
        }
        for server in &self.servers {
            let log = server.log_text();
            let errors: Vec<&str> = log.lines().filter(|l| l.contains("ERROR") || l.contains("panicked")).collect();
            assert!(errors.is_empty(), "{what}: a server logged {errors:#?}");
        }
        line
    }

    /// Workflows that are not told to be complete, each with all its members ended and those counted that failed.
    async fn uncompleted(&self, client: &Client, expected: &Ends) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + END_MAX;
        let mut left = Vec::new();
        for workflow in &self.workflows {
            let failed = workflow.members().filter(|id| !matches!(expected.get(*id), Some(End::Succeeds(_)))).count();
            loop {
                let told = client.group(&workflow.id).progress().await;
                let is_whole = told.as_ref().is_ok_and(|told| {
                    told.completed
                        && (told.ended, told.total, told.failed as usize)
                            == (workflow.total(), workflow.total(), failed)
                });
                if is_whole {
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    left.push(format!("{}: {told:?}, of which {failed} failed", workflow.id));
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        left
    }
}

/// Nothing waits in the queue any more.
async fn empty(client: &Client) {
    let deadline = tokio::time::Instant::now() + END_MAX;
    loop {
        let request = GetQueueRequest { queue: "fault".to_owned() };
        let queue =
            client.queue_service().get_queue(request).await.expect("is told").into_inner().queue.expect("is set");
        if (queue.waiting, queue.delayed) == (0, 0) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "something waits still: {queue:?}");
        tokio::time::sleep(PAUSE).await;
    }
}
