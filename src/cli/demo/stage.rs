//! What the scenes play on: sends tasks, watches each of them, and settles the account at the end of a scene.

use std::time::Duration;

use lineshaft_client::{Client, Task, proto};
use proto::{TaskState, TaskStatus};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::account::Account;
use super::expect::{Case, Watched};
use super::process::Run;
use crate::cli::remote::{self, Connection};
use crate::cli::{Exit, Failure, Remote, output, state, value};

/// How long a task may take that has nothing to wait for but the demo itself.
const TASK_PATIENCE: Duration = Duration::from_secs(30);

/// How long a worker's word may be under way.
const WORD_PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries of a watch while the server is away.
const AWAY_DELAY: Duration = Duration::from_millis(100);

/// Sends, watches, settles.
#[derive(Debug)]
pub struct Stage {
    /// What is told.
    pub account: Account,
    client: Client,
    connection: Connection,
    /// The attempts that workers began.
    pub runs: watch::Sender<Vec<Run>>,
    watched: Vec<(Case, JoinHandle<Watched>)>,
    complaints: usize,
}

/// A task to send, with what is expected of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As in [`Case::label`].
    pub label: &'static str,
    /// As in [`Case::shows`].
    pub shows: &'static str,
    /// What is sent.
    pub task: Task,
    /// How it is sent.
    pub way: Way,
    /// As in [`Case::status`].
    pub status: TaskStatus,
    /// As in [`Case::outcome`].
    pub outcome: Vec<Value>,
    /// As in [`Case::runs`].
    pub runs: (usize, usize),
    /// As in [`Case::not_before`].
    pub not_before: f64,
}

/// How a task is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the Rust client.
    Client,
    /// By a plain gRPC call, as any language can make one from `task_service.proto`.
    Call,
}

impl Plan {
    /// A task that is expected to end in SUCCESS with these results, in one run.
    pub fn good(label: &'static str, shows: &'static str, task: Task, outcome: &[Value]) -> Self {
        let outcome = outcome.to_vec();
        let (way, status, runs) = (Way::Client, TaskStatus::Success, (1, 1));
        Self { label, shows, task, way, status, outcome, runs, not_before: 0.0 }
    }
}

impl Stage {
    /// A stage before the server at `url`.
    ///
    /// # Errors
    /// As the connection failed.
    pub async fn new(account: Account, url: &str) -> Result<Self, Failure> {
        let connection = Remote { server: url.to_owned(), json: account.is_json() }.connect().await?;
        let client = Client::connect(url).await?;
        let runs = watch::Sender::new(Vec::new());
        Ok(Self { account, client, connection, runs, watched: Vec::new(), complaints: 0 })
    }

    /// Sends a task and watches it from then on; answers its id.
    ///
    /// # Errors
    /// As the server refused.
    pub async fn send(&mut self, plan: Plan) -> Result<String, Failure> {
        let message = plan.task.clone().into_proto();
        let call = format!("{}({})", message.name, value::texts(&message.args));
        let how = match plan.way {
            Way::Client => "",
            Way::Call => " by a plain gRPC call",
        };
        // Told before it is done: a worker may run it before the answer is here.
        self.account.tell(
            plan.label,
            "sends",
            &format!("sent{how}: {call}"),
            [("call", call.into()), ("shows", plan.shows.into())],
        );
        let sent_at = self.account.seconds();
        let task_id = match plan.way {
            Way::Client => self.client.send(plan.task).await?.id().to_owned(),
            Way::Call => {
                let request = proto::SendTaskRequest { task: Some(message) };
                self.connection.tasks().send_task(remote::quick(request)).await?.into_inner().task_id
            }
        };
        let watch = watch_to_the_end(self.connection.clone(), self.account.clone(), plan.label, task_id.clone());
        let case = Case {
            label: plan.label,
            shows: plan.shows,
            task_id: task_id.clone(),
            sent_at,
            status: plan.status,
            outcome: plan.outcome,
            runs: plan.runs,
            not_before: plan.not_before,
        };
        self.watched.push((case, tokio::spawn(watch)));
        Ok(task_id)
    }

    /// Waits until some worker runs the task, and answers which.
    ///
    /// # Errors
    /// [`Exit::TaskFailed`] if none does in time.
    pub async fn worker_of(&self, task_id: &str) -> Result<String, Failure> {
        let mut runs = self.runs.subscribe();
        let found = timeout(TASK_PATIENCE, runs.wait_for(|runs| runs.iter().any(|run| run.task_id == task_id))).await;
        let worker = match found {
            Ok(Ok(runs)) => runs.iter().rev().find(|run| run.task_id == task_id).map(|run| run.worker.clone()),
            _ => None,
        };
        worker.ok_or_else(|| Failure::new(Exit::TaskFailed, format!("no worker has begun task {task_id:?}")))
    }

    /// Waits for the end of every task sent since the last time, and shows what became of them beside what was expected.
    ///
    /// # Errors
    /// [`Exit::TaskFailed`] if a task has not ended in time.
    pub async fn settle(&mut self) -> Result<(), Failure> {
        let mut table = output::table(["TASK", "SHOWS", "STATUS", "RUNS", "TOOK", "RESULT", "VERDICT"]);
        let mut notes = Vec::new();
        for (case, watch) in std::mem::take(&mut self.watched) {
            let late =
                || Failure::new(Exit::TaskFailed, format!("task {:?} of {} has not ended", case.task_id, case.label));
            let watched = timeout(TASK_PATIENCE, watch).await.map_err(|_| late())?.map_err(|_| late())?;
            let runs = self.runs_of(&case).await;
            let complaints = case.complaints(&watched, runs);
            self.complaints += complaints.len();
            table.add_row(case.row(&watched, runs, complaints.is_empty()));
            if self.account.is_json() {
                self.account.tell(
                    case.label,
                    "ended",
                    "",
                    [
                        ("state", state::to_json(&watched.state)),
                        ("runs", runs.into()),
                        ("as_expected", complaints.is_empty().into()),
                        ("complaints", complaints.into()),
                    ],
                );
            } else {
                notes.extend(complaints.iter().map(|complaint| format!("{}: {complaint}", case.label)));
            }
        }
        if !self.account.is_json() {
            self.account.print("");
            for row in table.lines() {
                self.account.print(row.trim_end());
            }
            for note in notes {
                self.account.print(&self.account.verdict(false, &note));
            }
        }
        Ok(())
    }

    // How often workers said that they run the task. Their word may arrive a moment after the news of its end.
    async fn runs_of(&self, case: &Case) -> usize {
        let count = |runs: &Vec<Run>| runs.iter().filter(|run| run.task_id == case.task_id).count();
        let mut runs = self.runs.subscribe();
        let _ = timeout(WORD_PATIENCE, runs.wait_for(|runs| count(runs) >= case.runs.0)).await;
        count(&runs.borrow())
    }

    /// True if everything went as expected so far.
    pub fn is_good(&self) -> bool {
        self.complaints == 0
    }
}

// Follows one task through `WatchState`. The server may be killed meanwhile: the watch is taken up again, and what was
// told already is not told twice.
async fn watch_to_the_end(connection: Connection, account: Account, label: &'static str, task_id: String) -> Watched {
    let mut watched = Watched::default();
    let mut told = None;
    loop {
        let request = proto::WatchStateRequest { task_id: task_id.clone(), ..Default::default() };
        if let Ok(stream) = connection.tasks().watch_state(request).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(answer)) = stream.message().await {
                let Some(state) = answer.state else { continue };
                let now = account.seconds();
                if state.status() != TaskStatus::Pending {
                    watched.begun_at.get_or_insert(now);
                }
                if told.replace((state.status, state.attempt)) != Some((state.status, state.attempt)) {
                    tell(&account, label, &state);
                }
                let is_final = matches!(state.status(), TaskStatus::Success | TaskStatus::Failure);
                watched.state = state;
                if is_final {
                    watched.ended_at = Some(now);
                    return watched;
                }
            }
        }
        tokio::time::sleep(AWAY_DELAY).await;
    }
}

fn tell(account: &Account, label: &str, state: &TaskState) {
    let outcome = state::outcome(state);
    let text = if outcome.is_empty() {
        format!("is {}", state::status(state))
    } else {
        format!("is {}: {}", state::status(state), output::cell(&outcome))
    };
    account.tell(label, "state", &text, [("state", state::to_json(state))]);
}
