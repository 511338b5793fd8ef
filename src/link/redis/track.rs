//! Being told of keys that change, whoever changes them: Redis remembers which ones this connection has read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, Value};
use tokio::sync::{broadcast, mpsc};

use super::connect::Link;

/// Pause before a broken connection is made anew.
const PAUSE: Duration = Duration::from_millis(100);
/// A server that said nothing for so long is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Keys that are asked about in one round trip.
const BATCH_MAX: usize = 256;

/// Follows keys until it is dropped. What is told may be no change; every change is told.
#[derive(Debug)]
pub struct Tracker {
    followed: Arc<Followed>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Followed {
    counts: Mutex<HashMap<Arc<str>, usize>>,
    changed: broadcast::Sender<Arc<str>>,
    asked: mpsc::UnboundedSender<Arc<str>>,
}

impl Tracker {
    /// Follows keys of `link`, which is no cluster. A receiver that falls `kept` behind loses the oldest.
    pub fn start(link: Link, kept: usize) -> Self {
        let (asked, asks) = mpsc::unbounded_channel();
        let followed = Arc::new(Followed { counts: Mutex::default(), changed: broadcast::Sender::new(kept), asked });
        Self { task: tokio::spawn(run(link, Arc::clone(&followed), asks)), followed }
    }

    /// From now on changes of `key` are told, until [`Tracker::unfollow`]. Counted: as many unfollow as follow.
    pub fn follow(&self, key: &str) {
        let key: Arc<str> = key.into();
        let is_first = {
            let mut counts = self.followed.counts.lock();
            let count = counts.entry(Arc::clone(&key)).or_default();
            *count += 1;
            *count == 1
        };
        if is_first {
            // An error says that the connection's task has ended, with the program.
            let _ = self.followed.asked.send(key);
        }
    }

    /// No longer.
    pub fn unfollow(&self, key: &str) {
        let mut counts = self.followed.counts.lock();
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
        }
    }

    /// Keys that may have changed.
    pub fn changes(&self) -> broadcast::Receiver<Arc<str>> {
        self.followed.changed.subscribe()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    fn is_followed(&self, key: &str) -> bool {
        self.counts.lock().contains_key(key)
    }

    fn tell(&self, key: &Arc<str>) {
        // An error says that nobody listens.
        let _ = self.changed.send(Arc::clone(key));
    }
}

async fn run(link: Link, followed: Arc<Followed>, mut asks: mpsc::UnboundedReceiver<Arc<str>>) {
    loop {
        let (push, mut pushed) = mpsc::unbounded_channel::<PushInfo>();
        if let Ok(mut connection) = link.listening(AsyncConnectionConfig::new().set_push_sender(push)).await {
            follow_on(&mut connection, &followed, &mut asks, &mut pushed).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows over one connection for as long as it works.
async fn follow_on(
    connection: &mut MultiplexedConnection,
    followed: &Followed,
    asks: &mut mpsc::UnboundedReceiver<Arc<str>>,
    pushed: &mut mpsc::UnboundedReceiver<PushInfo>,
) {
    let mut tracking = redis::cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("OPTIN");
    if !answered(connection.send_packed_command(&tracking)).await {
        return;
    }
    // What changed while there was no connection was told to nobody: all are read, and told, anew.
    let mut due: Vec<Arc<str>> = followed.counts.lock().keys().cloned().collect();
    loop {
        for batch in due.chunks(BATCH_MAX) {
            if !remembered(connection, batch).await {
                return;
            }
            // Whoever asked has read before Redis remembered, or reads again now.
            batch.iter().for_each(|key| followed.tell(key));
        }
        due.clear();
        tokio::select! {
            asked = asks.recv() => match asked {
                None => return,
                Some(key) => {
                    due.push(key);
                    while let Ok(key) = asks.try_recv() {
                        due.push(key);
                    }
                }
            },
            push = pushed.recv() => match push {
                None => return,
                Some(push) if push.kind == PushKind::Disconnection => return,
                Some(push) if push.kind == PushKind::Invalidate => due.extend(keys(push.data)),
                Some(_) => {}
            },
            () = tokio::time::sleep(SILENCE_MAX) => {
                if !answered(connection.send_packed_command(&redis::cmd("PING"))).await {
                    return;
                }
            }
        }
        due.retain(|key| followed.is_followed(key));
    }
}

/// Reads keys in a way that makes Redis remember that this connection wants to hear of them.
async fn remembered(connection: &mut MultiplexedConnection, keys: &[Arc<str>]) -> bool {
    let mut pipeline = Pipeline::new();
    for key in keys {
        let (mut caching, mut read) = (redis::cmd("CLIENT"), Cmd::new());
        caching.arg("CACHING").arg("YES");
        // Its length alone: the value is read by whoever is told.
        read.arg("STRLEN").arg(&**key);
        pipeline.add_command(caching).add_command(read);
    }
    let count = pipeline.len();
    answered(connection.send_packed_commands(&pipeline, 0, count)).await
}

async fn answered<T>(call: impl Future<Output = redis::RedisResult<T>>) -> bool {
    matches!(tokio::time::timeout(SILENCE_MAX, call).await, Ok(Ok(_)))
}

fn keys(data: Vec<Value>) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    for value in data {
        match value {
            Value::Array(items) => found.extend(keys(items)),
            Value::BulkString(key) => found.extend(String::from_utf8(key).ok().map(Arc::from)),
            _ => {}
        }
    }
    found
}
