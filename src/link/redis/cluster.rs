//! A cluster: a link to each of its nodes, and which of them has which slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisError, Value};
use tokio::sync::watch;

use super::address::{Address, Options, Server};
use super::connect::Link;
use super::failure::Failure;
use super::slots::{self, SLOTS};

/// Longest time for which a node is asked where the slots are.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Nodes that are asked at once.
const ASK_AT_ONCE: usize = 3;
/// Most nodes: more than Redis itself recommends.
const NODES_MAX: usize = 1_024;

/// What no slot has.
const NOBODY: u16 = u16::MAX;

/// The nodes of a cluster. A node's link connects when it is first used, and lives as long as the node has slots.
#[derive(Debug)]
pub(super) struct Cluster {
    address: Address,
    options: Options,
    map: RwLock<Map>,
    /// Counts how often a slot was found to be elsewhere.
    moved: watch::Sender<u64>,
    /// One asks where the slots are, the others wait for what it finds.
    asking: tokio::sync::Mutex<()>,
    /// Commands without a key go round.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Map {
    nodes: Vec<Node>,
    /// The node of each slot, or [`NOBODY`].
    owners: Vec<u16>,
}

/// One server that has slots.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its name and port.
    pub(super) place: Place,
    /// The way to it.
    pub(super) link: Link,
}

/// Where a node is.
pub(super) type Place = (Arc<str>, u16);

/// First slot, last slot, and who has them.
type Range = (u16, u16, Place);

impl Cluster {
    /// Asks the servers of `address`, one after the other, for their cluster.
    ///
    /// # Errors
    /// [`Failure`] of the last one.
    pub(super) async fn open(address: &Address, options: &Options) -> Result<Self, Failure> {
        if address.database != 0 {
            return Err(Failure::unreachable(format!(
                "database {} is named, and a cluster has database 0 only",
                address.database
            )));
        }
        let cluster = Self {
            address: address.clone(),
            options: options.clone(),
            map: RwLock::new(Map { nodes: Vec::new(), owners: vec![NOBODY; usize::from(SLOTS)] }),
            moved: watch::Sender::new(0),
            asking: tokio::sync::Mutex::new(()),
            turn: AtomicUsize::new(0),
        };
        let mut last = Failure::unreachable("no server is named");
        for server in &address.servers {
            let found = async {
                let link = Link::open_one(cluster.of_one(server.clone()), cluster.for_one()).await?;
                cluster.learn_from(&link, server).await
            };
            match found.await {
                Ok(()) => return Ok(cluster),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Tells when slots were found to be elsewhere.
    pub(super) fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// The node that has `slot`, or any for no slot.
    pub(super) fn node(&self, slot: Option<u16>) -> Option<Node> {
        let map = self.map.read();
        match slot {
            Some(slot) => {
                let owner = map.owners.get(usize::from(slot)).copied()?;
                map.nodes.get(usize::from(owner)).cloned()
            }
            None if map.nodes.is_empty() => None,
            None => map.nodes.get(self.turn.fetch_add(1, Ordering::Relaxed) % map.nodes.len()).cloned(),
        }
    }

    /// The node that has `key`.
    ///
    /// # Errors
    /// [`Failure`]: nobody does.
    pub(super) fn node_of(&self, key: &[u8]) -> Result<Node, Failure> {
        let slot = slots::slot(key);
        self.node(Some(slot)).ok_or_else(|| Failure::unreachable(format!("no node of the cluster has slot {slot}")))
    }

    /// All nodes with slots.
    pub(super) fn nodes(&self) -> Vec<Node> {
        self.map.read().nodes.clone()
    }

    /// A node said where a slot is: `place` is `host:port`; without a host it is on the same machine as `from`.
    pub(super) fn learn(&self, slot: u16, place: &str, from: &Place) -> Option<Node> {
        let (host, port) = place.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let place: Place = (if host.is_empty() { Arc::clone(&from.0) } else { host.into() }, port.parse().ok()?);
        let mut map = self.map.write();
        let at = self.place_in(&mut map, place)?;
        let node = map.nodes.get(usize::from(at)).cloned();
        let is_new = map.owners.get_mut(usize::from(slot)).is_some_and(|owner| std::mem::replace(owner, at) != at);
        drop(map);
        if is_new {
            self.moved.send_modify(|count| *count += 1);
        }
        node
    }

    /// The node at a place, for one command: it is importing a slot that is still another's.
    pub(super) fn visit(&self, place: &str, from: &Place) -> Option<Node> {
        let (host, port) = place.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let place: Place = (if host.is_empty() { Arc::clone(&from.0) } else { host.into() }, port.parse().ok()?);
        let mut map = self.map.write();
        let at = self.place_in(&mut map, place)?;
        map.nodes.get(usize::from(at)).cloned()
    }

    /// Asks where the slots are: nodes that are known, then the servers of the configuration. Whoever comes while
    /// somebody asks takes that answer.
    pub(super) async fn ask(&self) {
        let Ok(_asking) = self.asking.try_lock() else {
            drop(self.asking.lock().await);
            return;
        };
        let mut nodes = self.nodes();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(nodes.len()).unwrap_or_default();
        nodes.rotate_left(first);
        // Several at once: one that is gone does not keep the others from telling.
        for some in nodes.chunks(ASK_AT_ONCE) {
            let asked = some.iter().map(|node| {
                Box::pin(async {
                    let server = Server::Tcp(node.place.0.to_string(), node.place.1);
                    self.learn_from(&node.link, &server).await
                })
            });
            if matches!(tokio::time::timeout(ASK_MAX, futures::future::select_ok(asked)).await, Ok(Ok(_))) {
                return;
            }
        }
        for server in &self.address.servers {
            let asked = async {
                let link = Link::open_one(self.of_one(server.clone()), self.for_one()).await?;
                self.learn_from(&link, server).await
            };
            if matches!(tokio::time::timeout(ASK_MAX, asked).await, Ok(Ok(()))) {
                return;
            }
        }
        tracing::warn!(redis = %self.address.shown(), "no node says where the slots of the cluster are");
    }

    async fn learn_from(&self, link: &Link, server: &Server) -> Result<(), Failure> {
        let mut shared = link.shared().await?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = shared.connection.req_packed_command(&command).await.and_then(Value::extract_error);
        let answer = answer.map_err(|error| {
            let failure = Failure::of(&error, super::Access::Read);
            if failure.is_broken {
                link.broken(shared.number);
            }
            failure
        })?;
        let odd = || Failure::unreachable("CLUSTER SLOTS was answered in a form that is not known");
        let asked: Arc<str> = match server {
            Server::Tcp(host, _) => host.as_str().into(),
            Server::Unix(_) => "localhost".into(),
        };
        let Value::Array(ranges) = answer else { return Err(odd()) };
        let ranges: Vec<Range> =
            ranges.into_iter().map(|range| read(range, &asked)).collect::<Option<_>>().ok_or_else(odd)?;
        if ranges.is_empty() {
            return Err(Failure::unreachable("the cluster has no slots yet"));
        }
        self.replace(&ranges);
        Ok(())
    }

    /// What is known now; nodes without slots are forgotten.
    fn replace(&self, ranges: &[Range]) {
        let mut map = self.map.write();
        let mut next = Map { nodes: Vec::new(), owners: vec![NOBODY; usize::from(SLOTS)] };
        let place_of = |map: &Map, slot: usize| {
            map.owners.get(slot).and_then(|at| map.nodes.get(usize::from(*at))).map(|node| node.place.clone())
        };
        for (first, last, place) in ranges {
            if let Some(known) = map.nodes.iter().find(|node| node.place == *place)
                && !next.nodes.iter().any(|node| node.place == *place)
            {
                next.nodes.push(known.clone());
            }
            let Some(at) = self.place_in(&mut next, place.clone()) else { continue };
            if let Some(owners) = next.owners.get_mut(usize::from(*first)..=usize::from(*last)) {
                owners.fill(at);
            }
        }
        let is_new = (0..usize::from(SLOTS)).any(|slot| place_of(&map, slot) != place_of(&next, slot));
        *map = next;
        drop(map);
        if is_new {
            self.moved.send_modify(|count| *count += 1);
        }
    }

    /// The number of the node at `place`, which is added if it is new; `None`: there are too many.
    fn place_in(&self, map: &mut Map, place: Place) -> Option<u16> {
        if let Some(at) = map.nodes.iter().position(|node| node.place == place) {
            return u16::try_from(at).ok();
        }
        if map.nodes.len() >= NODES_MAX {
            return None;
        }
        let link = Link::unconnected(self.of_one(Server::Tcp(place.0.to_string(), place.1)), self.for_one());
        map.nodes.push(Node { place, link });
        u16::try_from(map.nodes.len() - 1).ok()
    }

    /// The address of one node: user, password and TLS are the cluster's.
    fn of_one(&self, server: Server) -> Address {
        Address { servers: vec![server], ..self.address.clone() }
    }

    fn for_one(&self) -> Options {
        Options { is_cluster: false, master_name: None, ..self.options.clone() }
    }
}

/// One line of `CLUSTER SLOTS`: first, last, the master, its replicas.
fn read(range: Value, asked: &Arc<str>) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let mut number = || match parts.next() {
        Some(Value::Int(slot)) => u16::try_from(slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    };
    let (first, last) = (number()?, number()?);
    let Some(Value::Array(master)) = parts.next() else { return None };
    let mut master = master.into_iter();
    // A node that does not know its own name is where it was asked.
    let host = match master.next()? {
        Value::BulkString(host) if !host.is_empty() && host != b"?" => String::from_utf8(host).ok()?.into(),
        Value::SimpleString(host) if !host.is_empty() && host != "?" => host.into(),
        _ => Arc::clone(asked),
    };
    let Value::Int(port) = master.next()? else { return None };
    Some((first, last, (host, u16::try_from(port).ok()?)))
}

/// Nobody has the slot of a call, or its owner cannot be reached: nothing was sent.
pub(super) fn unreachable(why: String) -> RedisError {
    RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(first: i64, last: i64, host: &str, port: i64) -> Value {
        let master = vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString(b"id".to_vec())];
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(master)])
    }

    #[test]
    fn a_node_without_a_name_is_where_it_was_asked() {
        let asked: Arc<str> = "seed".into();
        assert_eq!(read(line(0, 5, "10.0.0.1", 7), &asked), Some((0, 5, ("10.0.0.1".into(), 7))));
        assert_eq!(read(line(6, 16_383, "", 8), &asked), Some((6, 16_383, ("seed".into(), 8))));
        for odd in [line(0, 16_384, "h", 1), line(0, 1, "h", 70_000), Value::Nil, Value::Array(vec![])] {
            assert_eq!(read(odd, &asked), None);
        }
    }
}
