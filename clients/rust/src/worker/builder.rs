//! How a worker is made.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::attempt::{Handlers, OnFailure, OnVerdict};
use super::context::Context;
use super::failure::Failure;
use super::function::{BlockingHandler, Function, Handler};
use super::inline::Inline;
use super::middleware::{Middleware, Stack};
use super::{Stopper, Worker};
use crate::connection::{ConnectOptions, endpoints};
use crate::engine::Config;
use crate::error::Error;
use crate::producer::client::Client;
use crate::proto::Subscription;

/// `Subscription.names` takes no more.
const NAMES_MAX: usize = 1000;
/// `Hello.subscriptions` takes no more.
const SUBSCRIPTIONS_MAX: usize = 100;
/// `Subscription.weight` is from 1 to this.
const WEIGHT_MAX: u32 = 1000;

/// The servers of a worker: made from a [`Client`], from one address or from several.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    addresses: Vec<String>,
    options: ConnectOptions,
    default_queue: String,
}

impl From<&Client> for Servers {
    fn from(client: &Client) -> Self {
        Self {
            addresses: client.addresses().to_vec(),
            options: client.options().clone(),
            default_queue: client.default_queue().to_owned(),
        }
    }
}

impl From<&str> for Servers {
    fn from(address: &str) -> Self {
        [address].into()
    }
}

impl From<String> for Servers {
    fn from(address: String) -> Self {
        [address].into()
    }
}

impl<A: Into<String>, const N: usize> From<[A; N]> for Servers {
    fn from(addresses: [A; N]) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

impl<A: Into<String>> From<Vec<A>> for Servers {
    fn from(addresses: Vec<A>) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// A worker to be configured. Mistakes are told by [`WorkerBuilder::build`].
#[derive(Debug)]
#[must_use = "a worker runs only once it is built and run"]
pub struct WorkerBuilder {
    servers: Servers,
    queues: Vec<(String, u32)>,
    functions: HashMap<String, Function>,
    twice: Option<String>,
    middleware: Stack,
    on_failure: Option<OnFailure>,
    on_verdict: Option<OnVerdict>,
    name: Option<String>,
    concurrency: u32,
    prefetch: u32,
    report_bytes_max: usize,
    grace: Duration,
}

impl WorkerBuilder {
    pub(super) fn new(servers: Servers) -> Self {
        Self {
            servers,
            queues: Vec::new(),
            functions: HashMap::new(),
            twice: None,
            middleware: Stack::default(),
            on_failure: None,
            on_verdict: None,
            name: None,
            concurrency: 10,
            prefetch: 0,
            report_bytes_max: 64 << 20,
            grace: Duration::from_secs(30),
        }
    }

    /// Adds a queue to take tasks from. None added: the client's default queue, else the server's.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.weighted_queue(queue, 1)
    }

    /// Adds a queue with its share, 1 to 1,000, among this worker's queues while all have tasks.
    pub fn weighted_queue(mut self, queue: impl Into<String>, weight: u32) -> Self {
        self.queues.push((queue.into(), weight));
        self
    }

    /// How many attempts run at once: 0 = no limit (then the server's `session_leases_max`), 1 = strictly one after
    /// another. Default 10.
    pub fn concurrency(mut self, attempts: u32) -> Self {
        self.concurrency = attempts;
        self
    }

    /// How many tasks are leased beyond those that run, so that the next starts without a round trip. They are kept from
    /// other workers meanwhile: for short tasks only. Default 0.
    pub fn prefetch(mut self, tasks: u32) -> Self {
        self.prefetch = tasks;
        self
    }

    /// A name for people, at most 200 bytes. Default: host and process id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long what runs may go on once the worker is stopped. Default 30 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// No task is taken while more bytes of results than this wait for the server. Default 64 MiB.
    pub fn report_bytes_max(mut self, bytes: usize) -> Self {
        self.report_bytes_max = bytes;
        self
    }

    /// How to reach the servers.
    pub fn options(mut self, options: ConnectOptions) -> Self {
        self.servers.options = options;
        self
    }

    /// Registers an async function under the name that tasks call it by. It takes up to eight [`FromArg`](crate::FromArg)
    /// parameters, behind a [`Context`] if it wants one; its output is a `Result` of `()`, one value or a tuple of several.
    pub fn register<Kind>(self, name: impl Into<String>, handler: impl Handler<Kind>) -> Self {
        self.register_function(name, Function::new(handler))
    }

    /// As [`WorkerBuilder::register`], for a function that is not async and may block.
    pub fn register_blocking<Kind: 'static>(
        self,
        name: impl Into<String>,
        handler: impl BlockingHandler<Kind>,
    ) -> Self {
        self.register_function(name, Function::blocking(handler))
    }

    /// Registers functions, from a map or anything else that yields names with them.
    pub fn register_all<N: Into<String>>(self, functions: impl IntoIterator<Item = (N, Function)>) -> Self {
        functions.into_iter().fold(self, |builder, (name, function)| builder.register_function(name, function))
    }

    /// Registers a function whose type is gone.
    pub fn register_function(mut self, name: impl Into<String>, function: Function) -> Self {
        match self.functions.entry(name.into()) {
            Entry::Occupied(entry) => {
                self.twice.get_or_insert_with(|| entry.key().clone());
            }
            Entry::Vacant(entry) => {
                entry.insert(function);
            }
        }
        self
    }

    /// Adds what stands around each attempt, inside of what was added before; see [`Middleware`].
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(middleware);
        self
    }

    /// Called when an attempt failed and no other follows: the last retry is spent, or the failure was fatal. The failure
    /// is reported after it has ended. Not called for an attempt that was told to stop, for whatever reason.
    pub fn on_failure<F, Handled>(mut self, handler: F) -> Self
    where
        F: Fn(Context, Failure) -> Handled + Send + Sync + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        self.on_failure = Some(OnFailure(Arc::new(move |context, failure| handler(context, failure).boxed())));
        self
    }

    /// Told what became of each report: its lease and the server's verdict, once for each attempt that was reported. Called
    /// on the engine's thread, so it must not block.
    pub fn on_verdict(mut self, told: impl Fn(&str, crate::proto::ReportVerdict) + Send + Sync + 'static) -> Self {
        self.on_verdict = Some(OnVerdict(Arc::new(told)));
        self
    }

    /// The worker. It connects when it runs.
    ///
    /// # Errors
    /// [`Error::Config`]: a name registered twice, no function, too many names or queues, a queue named twice, a weight out
    /// of range, no address or a malformed one.
    pub fn build(mut self) -> Result<Worker, Error> {
        let (handlers, subscriptions) = self.take()?;
        Ok(Worker {
            endpoints: endpoints(&self.servers.addresses, &self.servers.options)?,
            config: Config {
                worker: self.name.unwrap_or_else(default_name),
                subscriptions,
                concurrency: self.concurrency,
                prefetch: self.prefetch,
                report_bytes_max: self.report_bytes_max,
            },
            handlers,
            on_verdict: self.on_verdict,
            grace: self.grace,
            stopper: Stopper::new(),
        })
    }

    /// The same functions without servers, for tests: see [`Inline`]. Addresses are not looked at.
    ///
    /// # Errors
    /// As [`WorkerBuilder::build`], addresses excepted.
    pub fn inline(mut self) -> Result<Inline, Error> {
        self.take().map(|(handlers, _)| Inline::new(handlers))
    }

    /// Takes out what it runs and from where, checked.
    fn take(&mut self) -> Result<(Handlers, Vec<Subscription>), Error> {
        if let Some(name) = &self.twice {
            return Err(Error::Config(format!("the function {name:?} is registered twice")));
        }
        let queues = std::mem::take(&mut self.queues);
        let subscriptions = subscriptions(&self.servers.default_queue, queues, &self.functions)?;
        let handlers = Handlers {
            functions: Arc::new(std::mem::take(&mut self.functions)),
            middleware: Arc::new(std::mem::take(&mut self.middleware)),
            on_failure: self.on_failure.take(),
        };
        Ok((handlers, subscriptions))
    }
}

fn subscriptions(
    default_queue: &str,
    mut queues: Vec<(String, u32)>,
    functions: &HashMap<String, Function>,
) -> Result<Vec<Subscription>, Error> {
    if functions.is_empty() {
        return Err(Error::Config("no function is registered".into()));
    }
    if functions.len() > NAMES_MAX {
        return Err(Error::Config(format!("{} functions are registered, the limit is {NAMES_MAX}", functions.len())));
    }
    if queues.is_empty() {
        queues.push((default_queue.to_owned(), 1));
    }
    if queues.len() > SUBSCRIPTIONS_MAX {
        return Err(Error::Config(format!("{} queues are given, the limit is {SUBSCRIPTIONS_MAX}", queues.len())));
    }
    let mut names: Vec<String> = functions.keys().cloned().collect();
    names.sort_unstable();
    for (index, (queue, weight)) in queues.iter().enumerate() {
        if !(1..=WEIGHT_MAX).contains(weight) {
            return Err(Error::Config(format!("queue {queue:?}: weight {weight}, it is from 1 to {WEIGHT_MAX}")));
        }
        if queues.iter().take(index).any(|(other, _)| other == queue) {
            return Err(Error::Config(format!("queue {queue:?} is given twice")));
        }
    }
    Ok(queues.into_iter().map(|(queue, weight)| Subscription { queue, names: names.clone(), weight }).collect())
}

/// Host and process id.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok());
    let host = host.as_deref().map(str::trim).filter(|host| !host.is_empty() && host.len() <= 100);
    format!("{}/{}", host.unwrap_or("worker"), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> WorkerBuilder {
        Worker::builder("127.0.0.1:1").register("a", || async { Ok::<_, Failure>(()) })
    }

    fn mistake(builder: WorkerBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn a_name_registered_twice_is_an_error() {
        let twice = builder().register_blocking("a", |_n: i64| Ok::<_, Failure>(()));
        assert_eq!(mistake(twice), "the function \"a\" is registered twice");
        let map: HashMap<&str, Function> = [("a", Function::new(|| async { Ok::<_, Failure>(()) }))].into();
        assert!(mistake(builder().register_all(map)).contains("twice"));
    }

    #[test]
    fn mistakes_are_told_when_building() {
        assert!(builder().build().is_ok());
        assert_eq!(mistake(Worker::builder("127.0.0.1:1")), "no function is registered");
        assert!(mistake(builder().queue("q").queue("q")).contains("twice"));
        assert!(mistake(builder().weighted_queue("q", 0)).contains("weight 0"));
        let nowhere = Worker::builder(Vec::<String>::new()).register("a", || async { Ok::<_, Failure>(()) });
        assert!(mistake(nowhere).contains("no address"));
    }

    #[test]
    fn every_queue_gets_every_name() {
        let worker = builder()
            .register("b", |_context: Context| async { Ok::<_, Failure>(()) })
            .queue("x")
            .weighted_queue("y", 3)
            .build()
            .unwrap();
        let expected = [("x", 1), ("y", 3)].map(|(queue, weight)| Subscription {
            queue: queue.into(),
            names: vec!["a".into(), "b".into()],
            weight,
        });
        assert_eq!(worker.config.subscriptions, expected);
    }
}
