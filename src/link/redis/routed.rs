//! Calls in a cluster: each command goes to the node that has its key, those of one node in one round trip.
//!
//! A node that refuses a command because its slot is elsewhere, or on its way, has not carried it out: the command is sent
//! again, to whom it named or after a pause. A command whose answer was lost is never sent again here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, Value};
use tokio::time::{Instant, timeout_at};

use super::Access;
use super::cluster::{Cluster, Node, Place, unreachable};
use super::failure::{Failure, Written};
use super::slots::slot_of;
use super::wire::Wire;

/// Pauses before a command is sent again that was refused: the first, and what they grow to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// How long a call waits for the nodes to say where the slots are.
const ASK_MAX: Duration = Duration::from_millis(500);
/// How long commands are sent again whose node is not there: another may take its place.
const ABSENT_MAX: Duration = Duration::from_millis(500);

type Answer = Result<Value, RedisError>;

/// How long a call tries.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// While a node is not there.
    absent: Instant,
    /// While a slot moves: half of the time for an answer, so that the last attempt has the other half.
    moving: Instant,
    /// For everything.
    end: Instant,
}

impl Limits {
    fn new(answer_max: Duration) -> Self {
        let now = Instant::now();
        let moving = now + answer_max / 2;
        Self { absent: moving.min(now + ABSENT_MAX), moving, end: now + answer_max }
    }
}

/// What a refusal asks for.
#[derive(Debug)]
enum Step {
    /// Nothing: it is the answer.
    Done,
    /// Again, at once, to whoever has the slot now.
    Moved,
    /// Again, to this node, which takes it as an exception.
    Visit(Node),
    /// Again, after a pause.
    Later,
    /// Again, after a pause and after asking where the slots are.
    Ask,
}

/// A command that is to be sent.
struct Due {
    at: usize,
    visit: Option<Node>,
}

impl Cluster {
    /// Runs commands, each for itself; one answer each, in order. Those of one slot run in order.
    pub(super) async fn each(&self, pipeline: &Pipeline, answer_max: Duration) -> Vec<Answer> {
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        self.run(&commands, Some(pipeline), answer_max).await
    }

    /// Runs one command.
    pub(super) async fn one(&self, command: &Cmd, answer_max: Duration) -> Answer {
        let answer = self.run(&[command], None, answer_max).await.pop();
        answer.unwrap_or_else(|| Err(unreachable("no answer".to_owned())))
    }

    /// Runs a transaction on the node of its first key. `offset` and `count` as `ConnectionLike` has them.
    pub(super) async fn at_once(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
        answer_max: Duration,
    ) -> Result<Vec<Value>, RedisError> {
        let limits = Limits::new(answer_max);
        let slot = pipeline.cmd_iter().find_map(slot_of);
        let mut pause = PAUSE.0;
        loop {
            let Some(node) = self.node(slot) else {
                let error = unreachable("no node of the cluster has the slot".to_owned());
                if !self.wait(&Step::Ask, &mut pause, &limits).await {
                    return Err(error);
                }
                continue;
            };
            let answer = sent(&node, limits.end, async |connection| {
                connection.req_packed_commands(pipeline, offset, count).await
            })
            .await;
            let refusal = match &answer {
                Ok(values) => values.iter().find_map(|value| match value {
                    Value::ServerError(error) => Some(RedisError::from(error.clone())),
                    _ => None,
                }),
                Err(error) => Some(cause(error)),
            };
            let Some(step) = refusal.map(|error| self.step(&error, &node.place)) else { return answer };
            // The exception is for one command, not for a transaction: it waits until the slot has moved.
            let step = if matches!(step, Step::Visit(_)) { Step::Later } else { step };
            if matches!(step, Step::Done) || !self.wait(&step, &mut pause, &limits).await {
                return answer;
            }
        }
    }

    async fn run(&self, commands: &[&Cmd], whole: Option<&Pipeline>, answer_max: Duration) -> Vec<Answer> {
        let limits = Limits::new(answer_max);
        let mut answers: Vec<Option<Answer>> = commands.iter().map(|_| None).collect();
        let mut due: Vec<Due> = (0..commands.len()).map(|at| Due { at, visit: None }).collect();
        let mut pause = PAUSE.0;
        loop {
            let mut groups: Vec<(Node, Vec<Due>)> = Vec::new();
            let mut of_place: HashMap<Place, usize> = HashMap::new();
            // All that may go anywhere go together.
            let anywhere = self.node(None);
            let mut again = Vec::new();
            let mut worst = Step::Done;
            for item in due {
                let slot = commands.get(item.at).and_then(|command| slot_of(command));
                let owner = if slot.is_some() { self.node(slot) } else { anywhere.clone() };
                let Some(node) = item.visit.clone().or(owner) else {
                    if let Some(answer) = answers.get_mut(item.at) {
                        *answer = Some(Err(unreachable("no node of the cluster has the slot".to_owned())));
                    }
                    worst = Step::Ask;
                    again.push(Due { at: item.at, visit: None });
                    continue;
                };
                let at = *of_place.entry(node.place.clone()).or_insert_with(|| {
                    groups.push((node, Vec::new()));
                    groups.len() - 1
                });
                groups[at].1.push(item);
            }
            let whole = whole.filter(|_| groups.len() == 1 && groups[0].1.len() == commands.len());
            let calls = groups.into_iter().map(|(node, items)| async {
                let told = group(&node, &items, commands, whole, limits.end).await;
                (node, items, told)
            });
            for (node, items, told) in futures::future::join_all(calls).await {
                for (item, answer) in items.into_iter().zip(told) {
                    let step = match &answer {
                        Ok(_) => Step::Done,
                        Err(error) => self.step(error, &node.place),
                    };
                    answers[item.at] = Some(answer);
                    let visit = match &step {
                        Step::Done => continue,
                        Step::Visit(node) => Some(node.clone()),
                        _ => None,
                    };
                    again.push(Due { at: item.at, visit });
                    worst = step.or(worst);
                }
            }
            again.sort_by_key(|item| item.at);
            if again.is_empty() || !self.wait(&worst, &mut pause, &limits).await {
                let missing = || Err(unreachable("no answer".to_owned()));
                return answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect();
            }
            due = again;
        }
    }

    /// What an error of `from` asks for.
    fn step(&self, error: &RedisError, from: &Place) -> Step {
        match error.code() {
            Some("MOVED") => {
                let named = error.redirect_node().and_then(|(place, slot)| self.learn(slot, place, from));
                if named.is_some() { Step::Moved } else { Step::Ask }
            }
            Some("ASK") => {
                let named = error.redirect_node().and_then(|(place, _)| self.visit(place, from));
                named.map_or(Step::Ask, Step::Visit)
            }
            Some("TRYAGAIN") => Step::Later,
            Some("CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY") => Step::Ask,
            Some(_) => Step::Done,
            // Not sent at all, or perhaps carried out: only the former is sent again.
            None if Failure::of(error, Access::Write).written == Written::Nothing => Step::Ask,
            None => Step::Done,
        }
    }

    /// Waits before what was refused is sent again; `false`: it has been tried for long enough.
    async fn wait(&self, step: &Step, pause: &mut Duration, limits: &Limits) -> bool {
        let asks = matches!(step, Step::Ask);
        if asks {
            // Asked even if it is too late for this call: the next one finds the node that took the place of this.
            let before = *self.moved().borrow();
            let is_answered = timeout_at(Instant::now() + ASK_MAX, self.ask()).await.is_ok();
            if is_answered && *self.moved().borrow() != before && Instant::now() < limits.moving {
                return true;
            }
        }
        if Instant::now() >= if asks { limits.absent } else { limits.moving } {
            return false;
        }
        // A node that names another is believed at once; two that name each other are not asked all the time.
        let is_first = *pause == PAUSE.0;
        if !(is_first && matches!(step, Step::Moved | Step::Visit(_))) {
            tokio::time::sleep(*pause).await;
        }
        *pause = (*pause * 2).min(PAUSE.1);
        true
    }
}

impl Step {
    /// The one that waits longer.
    fn or(self, other: Self) -> Self {
        let rank = |step: &Self| match step {
            Self::Done => 0,
            Self::Moved => 1,
            Self::Visit(_) => 2,
            Self::Later => 3,
            Self::Ask => 4,
        };
        if rank(&self) >= rank(&other) { self } else { other }
    }
}

/// Sends the commands of one node; an answer for each.
async fn group(node: &Node, items: &[Due], commands: &[&Cmd], whole: Option<&Pipeline>, end: Instant) -> Vec<Answer> {
    let visits = items.iter().any(|item| item.visit.is_some());
    if let ([item], false) = (items, visits)
        && let Some(command) = commands.get(item.at)
    {
        let call = async |connection: &mut Wire| connection.req_packed_command(command).await;
        return vec![sent(node, end, call).await.and_then(Value::extract_error)];
    }
    let mut own = Pipeline::new();
    let mut places = Vec::with_capacity(items.len());
    let pipeline = match whole.filter(|_| !visits) {
        Some(whole) => {
            places.extend(0..items.len());
            whole
        }
        None => {
            for item in items {
                if item.visit.is_some() {
                    own.cmd("ASKING");
                }
                places.push(own.len());
                if let Some(command) = commands.get(item.at) {
                    own.add_command(Cmd::clone(command));
                }
            }
            &own
        }
    };
    let count = pipeline.len();
    let call = async |connection: &mut Wire| connection.req_packed_commands(pipeline, 0, count).await;
    match sent(node, end, call).await {
        Ok(values) => {
            let mut values: Vec<Option<Value>> = values.into_iter().map(Some).collect();
            let answer = |at: usize| match values.get_mut(at).and_then(Option::take) {
                Some(value) => value.extract_error(),
                None => Err(RedisError::from((ErrorKind::UnexpectedReturnType, "an answer is missing"))),
            };
            places.into_iter().map(answer).collect()
        }
        Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
    }
}

/// Sends over the connection of a node, which is given up if it turns out to be of no use.
async fn sent<T>(
    node: &Node,
    end: Instant,
    call: impl AsyncFnOnce(&mut Wire) -> Result<T, RedisError>,
) -> Result<T, RedisError> {
    let shared = node.link.shared().await.map_err(|failure| unreachable(failure.why))?;
    let mut connection = shared.connection;
    let answer = match timeout_at(end, call(&mut connection)).await {
        Ok(answer) => answer,
        Err(_) => Err(RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))),
    };
    if let Err(error) = &answer
        && Failure::of(error, Access::Write).is_broken
    {
        node.link.broken(shared.number);
    }
    answer
}

/// What stopped a transaction, in place of the abort.
fn cause(error: &RedisError) -> RedisError {
    let causes: Option<Arc<_>> = error.clone().into_server_errors();
    let found = causes.as_deref().and_then(|all| all.iter().find(|(_, cause)| cause.code() != "EXECABORT"));
    found.map_or_else(|| error.clone(), |(_, cause)| RedisError::from(cause.clone()))
}
