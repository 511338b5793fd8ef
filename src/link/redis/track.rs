//! Being told of keys that change, whoever changes them: Redis remembers which ones this connection has read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, Value};
use tokio::sync::{broadcast, mpsc};

use super::cluster::{Cluster, Place};
use super::connect::Link;

/// Pause before a broken connection is made anew.
const PAUSE: Duration = Duration::from_millis(100);
/// A server that said nothing for so long is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Until a node is asked again for a key whose slot is moving. Whoever follows it is told each time, and reads it at
/// whoever has it.
const LATE: Duration = Duration::from_secs(1);
/// Between two looks for keys that nobody follows any more, in a cluster.
const TIDY: Duration = Duration::from_secs(1);
/// Keys that are asked about in one round trip.
const BATCH_MAX: usize = 256;

/// Follows keys until it is dropped. What is told may be no change; every change is told. In a cluster, where each node
/// remembers for itself, a key is followed at its owner, and anew when its slot has moved; what changes while it moves is
/// told within a second.
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
    /// Follows keys of `link`. A receiver that falls `kept` behind loses the oldest.
    pub fn start(link: Link, kept: usize) -> Self {
        let (asked, asks) = mpsc::unbounded_channel();
        let followed = Arc::new(Followed { counts: Mutex::default(), changed: broadcast::Sender::new(kept), asked });
        let task = match link.cluster() {
            None => tokio::spawn(run(link, Arc::clone(&followed), asks)),
            Some(cluster) => tokio::spawn(follow_nodes(cluster, Arc::clone(&followed), asks, kept)),
        };
        Self { followed, task }
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
        if let Ok((mut connection, mut renewal)) =
            link.listening(AsyncConnectionConfig::new().set_push_sender(push)).await
        {
            tokio::select! {
                () = follow_on(&mut connection, &followed, &mut asks, &mut pushed) => {}
                () = renewal.happened() => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows each key at the node that has its slot.
async fn follow_nodes(
    cluster: Arc<Cluster>,
    followed: Arc<Followed>,
    mut asks: mpsc::UnboundedReceiver<Arc<str>>,
    kept: usize,
) {
    let mut moved = cluster.moved();
    let mut nodes: HashMap<Place, Tracker> = HashMap::new();
    let mut places: HashMap<Arc<str>, Place> = HashMap::new();
    let (tell, mut told) = mpsc::channel::<Arc<str>>(kept);
    let mut tidy = tokio::time::interval(TIDY);
    loop {
        let mut due = Vec::new();
        tokio::select! {
            asked = asks.recv() => match asked {
                None => return,
                Some(key) => due.push(key),
            },
            // Its node may not know yet that nobody follows it any more.
            Some(key) = told.recv() => if followed.is_followed(&key) {
                followed.tell(&key);
            },
            // The sender is in `cluster`.
            _ = moved.changed() => due.extend(places.keys().cloned()),
            // Keys without a node yet, and keys that nobody follows any more.
            _ = tidy.tick() => {
                places.retain(|key, place| {
                    let stays = followed.is_followed(key);
                    if let Some(node) = nodes.get(place).filter(|_| !stays) {
                        node.unfollow(key);
                    }
                    stays
                });
                // The tracker of a node without keys is of no use, and the node may be gone.
                nodes.retain(|place, _| places.values().any(|used| used == place));
                let counts = followed.counts.lock();
                due.extend(counts.keys().filter(|key| !places.contains_key(*key)).cloned());
            }
        }
        for key in due {
            let Ok(node) = cluster.node_of(key.as_bytes()) else { continue };
            match places.get(&key) {
                // It may have been left and asked for again since: whoever asked is told once more.
                Some(place) if *place == node.place => {
                    followed.tell(&key);
                    continue;
                }
                Some(place) => {
                    if let Some(before) = nodes.get(place) {
                        before.unfollow(&key);
                    }
                }
                None => {}
            }
            let tracker = nodes.entry(node.place.clone()).or_insert_with(|| {
                let tracker = Tracker::start(node.link.clone(), kept);
                tokio::spawn(pass_on(tracker.changes(), tell.clone()));
                tracker
            });
            tracker.follow(&key);
            places.insert(key, node.place);
        }
    }
}

/// Passes on what the tracker of a node tells, until that ends.
async fn pass_on(mut changes: broadcast::Receiver<Arc<str>>, tell: mpsc::Sender<Arc<str>>) {
    loop {
        match changes.recv().await {
            Ok(key) => {
                if tell.send(key).await.is_err() {
                    return;
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
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
    let mut late: Vec<Arc<str>> = Vec::new();
    loop {
        for batch in due.chunks(BATCH_MAX) {
            let Some(refused) = remembered(connection, batch).await else { return };
            // Whoever asked has read before Redis remembered, or reads again now.
            batch.iter().for_each(|key| followed.tell(key));
            late.extend(refused);
        }
        due.clear();
        tokio::select! {
            () = tokio::time::sleep(LATE), if !late.is_empty() => due.append(&mut late),
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

/// Reads keys in a way that makes Redis remember that this connection wants to hear of them. Answers those that this node
/// does not have at present; `None`: the connection is of no use.
async fn remembered(connection: &mut MultiplexedConnection, keys: &[Arc<str>]) -> Option<Vec<Arc<str>>> {
    let mut pipeline = Pipeline::new();
    for key in keys {
        let (mut caching, mut read) = (redis::cmd("CLIENT"), Cmd::new());
        caching.arg("CACHING").arg("YES");
        // Its length alone: the value is read by whoever is told.
        read.arg("STRLEN").arg(&**key);
        pipeline.add_command(caching).add_command(read);
    }
    let count = pipeline.len();
    let call = connection.send_packed_commands(&pipeline, 0, count);
    let Ok(Ok(values)) = tokio::time::timeout(SILENCE_MAX, call).await else { return None };
    let is_elsewhere = |value: &Value| matches!(value, Value::ServerError(error) if matches!(error.code(), "MOVED" | "ASK" | "CLUSTERDOWN"));
    // Every second answer is that of a key.
    let reads = values.iter().skip(1).step_by(2);
    Some(keys.iter().zip(reads).filter(|(_, value)| is_elsewhere(value)).map(|(key, _)| Arc::clone(key)).collect())
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
