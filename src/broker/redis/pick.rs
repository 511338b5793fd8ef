//! Picking: messages taken out of the middle of lists and sets, as `take` takes them from the head.
//!
//! Redis has no index of what its lists hold. A search reads the ends of each list and the first of what is delayed; what
//! stands between is found by nobody before its turn comes. Redis removes a value by comparing, so a place says how far it
//! is worth to look.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;

use super::frame::{self, Frame, Later};
use super::holdings::Held;
use super::layout::Keys;
use super::take::{delivery, own_key};
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, NAME, bytes, read, told};
use crate::broker::{Delivery, Pick, Place, Settle, Spot, Wanted};
use crate::error::StoreError;
use crate::link::redis::{Access, Script};
use crate::task::QueueName;

static PICK: Script = Script::new(include_str!("scripts/pick.lua"));

/// The parts of a queue, as `pick.lua` calls them: its lists in the order in which they are taken from.
pub(super) const LISTS: [u8; 3] = *b"aiq";
/// The end of the queue at which others add.
const TAIL: u8 = b't';
/// Machinery's set of delayed bodies.
pub(super) const DELAYED: u8 = b'd';
/// Ours.
pub(super) const LATER: u8 = b'l';

/// Messages that one search looks at, of each end of a queue.
const END_MAX: usize = 1_000;
/// Delayed messages that one search looks at, of each set.
const DELAYED_MAX: usize = 10_000;
/// Bytes that one search reads of the queues, and again of what is delayed, save for what the last round trip brings.
const SEARCH_BYTES_MAX: usize = 16 << 20;
/// Messages that one search answers.
const FOUND_MAX: usize = BATCH_MAX;
/// How far behind its place a message is looked for: what others return to the head meanwhile moves it there.
const BEHIND_MAX: usize = 1_000;
/// Values read in one round trip, before and after their size is known.
const CHUNK: usize = 64;
const CHUNK_MAX: usize = 1_024;
/// Queues whose lengths are read in one round trip.
const PAGE: usize = 256;

/// A search under way.
struct Search<'a> {
    wanted: Wanted<'a>,
    spots: Vec<Spot>,
    max: usize,
    values: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.bytes >= self.bytes_max || self.spots.len() >= FOUND_MAX
    }

    fn has_enough(&self) -> bool {
        self.spots.len() >= self.max
    }

    /// How many values to read next.
    fn chunk(&self) -> usize {
        let usual = self.bytes.checked_div(self.values).unwrap_or(BATCH_BYTES_MAX / CHUNK).max(1);
        (BATCH_BYTES_MAX / usual).clamp(1, CHUNK_MAX)
    }

    /// Looks at a value; true if its body is wanted.
    fn is_wanted(&mut self, value: &Bytes, body: &[u8]) -> bool {
        self.values += 1;
        self.bytes += value.len();
        !self.is_over() && (self.wanted)(body)
    }

    fn found(&mut self, queue: QueueName, part: u8, depth: usize, value: Bytes) {
        self.spots.push(Spot { queue, place: Place { part, depth, value } });
    }
}

impl Inner {
    /// The place of a delayed message; `None`: no script reaches its set and its queue.
    pub(super) fn delayed_place(&self, part: u8, member: &Bytes) -> Option<Place> {
        self.picks_delayed().then(|| Place { part, depth: 0, value: member.clone() })
    }

    /// Looks at values of a list from `from` up to `to`; `length`: of the list, where the depth is told from its tail.
    async fn search_list(
        &self,
        search: &mut Search<'_>,
        keys: &Keys,
        (part, key): (u8, &str),
        (from, to, length): (usize, usize, usize),
    ) -> Result<(), StoreError> {
        let mut at = from;
        while at < to && !search.is_over() {
            let values = self.range(key, at, search.chunk().min(to - at)).await?;
            if values.is_empty() {
                return Ok(());
            }
            for value in values {
                let framed = Some(&value).filter(|_| part == LISTS[0]).and_then(Frame::read);
                let body = framed.map_or_else(|| value.clone(), |frame| frame.body);
                if search.is_wanted(&value, &body) {
                    let depth = if part == TAIL { length.saturating_sub(at + 1) } else { at };
                    search.found(keys.queue.clone(), part, depth, value);
                }
                at += 1;
            }
        }
        Ok(())
    }

    /// Looks at both ends of the lists of some queues, up to the first in which something is found.
    async fn search_queues(&self, search: &mut Search<'_>, names: &[QueueName]) -> Result<(), StoreError> {
        let mut asked = redis::pipe();
        let queues: Vec<_> = names.iter().map(|name| self.queue(name)).collect();
        let lists = |keys: &Keys| [keys.again.clone(), keys.inbox.clone(), keys.queue.as_str().to_owned()];
        queues.iter().flat_map(|queue| lists(&queue.keys)).for_each(|key| {
            asked.cmd("LLEN").arg(key);
        });
        let mut lengths = self.link.pipeline(Access::Read, &asked).await.map_err(told)?.into_iter();
        for queue in &queues {
            for (part, key) in LISTS.into_iter().zip(lists(&queue.keys)) {
                let length = match lengths.next() {
                    Some(Ok(length)) => read::<usize>(length, "a length")?,
                    // A key of another type is no list that messages wait in.
                    Some(Err(failure)) if !failure.why.starts_with("WRONGTYPE") => return Err(told(failure)),
                    _ => 0,
                };
                let head = length.min(END_MAX);
                self.search_list(search, &queue.keys, (part, &key), (0, head, length)).await?;
                if part == LISTS[2] {
                    let tail = head.max(length.saturating_sub(END_MAX));
                    self.search_list(search, &queue.keys, (TAIL, &key), (tail, length, length)).await?;
                }
            }
            if search.is_over() || search.has_enough() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks at what is due first of all that is delayed.
    async fn search_delayed(&self, search: &mut Search<'_>, names: &BTreeSet<QueueName>) -> Result<(), StoreError> {
        let mut again: HashMap<String, &QueueName> = HashMap::new();
        for name in names {
            again.insert(self.queue(name).keys.again.clone(), name);
        }
        for (part, key) in [DELAYED, LATER].into_iter().zip(self.sets()) {
            let mut at = 0;
            while at < DELAYED_MAX && !search.is_over() {
                let mut command = redis::cmd("ZRANGE");
                command.arg(key).arg(at).arg(at + search.chunk().min(DELAYED_MAX - at) - 1);
                let members = self.link.command(Access::Read, &command).await.map_err(told)?;
                let members: Vec<Value> = read(members, "a set of what is delayed")?;
                if members.is_empty() {
                    break;
                }
                at += members.len();
                for member in members {
                    let member = bytes(member)?;
                    let (target, body) = match part {
                        DELAYED => {
                            let target = frame::routing_key(&member).unwrap_or(self.options.default_queue.as_str());
                            (target.to_owned(), member.clone())
                        }
                        _ => match Later::read(&member) {
                            Some(later) => (later.target, later.frame.body),
                            None => continue,
                        },
                    };
                    if search.is_wanted(&member, &body) {
                        let queue = again.get(&target).copied().cloned().or_else(|| QueueName::new(&target).ok());
                        queue.into_iter().for_each(|queue| search.found(queue, part, 0, member.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes some messages of one queue.
    async fn pick_from(&self, name: &QueueName, places: &[&Place]) -> Result<Vec<Option<Delivery>>, StoreError> {
        let queue = self.queue(name);
        self.name(&queue).await?;
        let flight = self.holdings.take(name, places.len() as u64);
        let (keys, replica, first) = (&queue.keys, flight.replica.clone(), flight.first);
        let held = keys.held(&replica);
        let mut names = vec![held.as_str(), &keys.holders, &keys.again, &keys.inbox, keys.queue.as_str()];
        if self.picks_delayed() {
            names.extend(self.sets());
        }
        let numbers = [first as usize, BEHIND_MAX].map(|number| number.to_string());
        let depths: Vec<String> = places.iter().map(|place| place.depth.to_string()).collect();
        let mut args: Vec<&[u8]> = vec![replica.as_bytes(), numbers[0].as_bytes(), numbers[1].as_bytes()];
        for (place, depth) in places.iter().zip(&depths) {
            args.extend([std::slice::from_ref(&place.part), depth.as_bytes(), &place.value[..]]);
        }
        let value = match self.link.script(Access::Write, &PICK, &names, &args).await.map_err(told) {
            Ok(value) => value,
            // Dropped without having landed, the flight is looked for, as one of `take`.
            Err(StoreError::OutcomeUnknown { store, why }) => return Err(StoreError::Unavailable { store, why }),
            Err(error) => {
                flight.cancel();
                return Err(error);
            }
        };
        let flags: Vec<i64> = read(value, "what was picked")?;
        let mut serial = first;
        let mut sizes = Vec::new();
        let mut picked = Vec::with_capacity(places.len());
        for (place, flag) in places.iter().zip(flags) {
            picked.push((flag == 1).then(|| {
                let delivery = given_out(place, &replica, name, serial);
                sizes.push(delivery.body.len());
                serial += 1;
                delivery
            }));
        }
        if !flight.land(&sizes) {
            let why = "this replica stood still so long that others took what it held".to_owned();
            return Err(StoreError::Unavailable { store: NAME, why });
        }
        Ok(picked)
    }
}

/// What is given out of a message that was picked.
fn given_out(place: &Place, replica: &std::sync::Arc<str>, queue: &QueueName, serial: u64) -> Delivery {
    let later = Some(&place.value).filter(|_| place.part == LATER).and_then(Later::read);
    let is_frame = place.part == LISTS[0] || later.as_ref().is_some_and(|later| later.frame.key.is_some());
    let held = Held { replica: replica.clone(), queue: queue.clone(), serial, is_frame };
    let Some(Later { frame: Frame { key, times, body }, .. }) = later else {
        return delivery(&held, place.value.clone());
    };
    let redelivered = key.is_some() && times > 0;
    Delivery { receipt: held.receipt(), key: Some(key.unwrap_or_else(|| own_key(&held))), body, redelivered }
}

#[async_trait]
impl Pick for Inner {
    fn picks_delayed(&self) -> bool {
        !self.link.is_cluster()
    }

    async fn search(&self, wanted: Wanted<'_>, max: usize) -> Result<Vec<Spot>, StoreError> {
        let mut search = Search { wanted, spots: Vec::new(), max, values: 0, bytes: 0, bytes_max: SEARCH_BYTES_MAX };
        let mut names: BTreeSet<QueueName> = self.known_queues().await?.into_iter().collect();
        names.insert(self.options.default_queue.clone());
        for some in names.iter().cloned().collect::<Vec<_>>().chunks(PAGE) {
            self.search_queues(&mut search, some).await?;
            if search.has_enough() {
                return Ok(search.spots);
            }
        }
        search.bytes_max = search.bytes + SEARCH_BYTES_MAX;
        if self.picks_delayed() {
            self.search_delayed(&mut search, &names).await?;
        }
        Ok(search.spots)
    }

    async fn pick(&self, spots: &[Spot]) -> Result<Vec<Option<Delivery>>, StoreError> {
        self.living().await?;
        let mut queues: BTreeMap<&QueueName, Vec<usize>> = BTreeMap::new();
        spots.iter().enumerate().for_each(|(i, spot)| queues.entry(&spot.queue).or_default().push(i));
        let mut picked: Vec<Option<Delivery>> = vec![None; spots.len()];
        for (name, all) in queues {
            let mut from = 0;
            while from < all.len() {
                let (mut to, mut size) = (from, 0);
                while to < all.len() && to - from < BATCH_MAX && (to == from || size < BATCH_BYTES_MAX) {
                    size += spots[all[to]].place.value.len();
                    to += 1;
                }
                let places: Vec<&Place> = all[from..to].iter().map(|i| &spots[*i].place).collect();
                match self.pick_from(name, &places).await {
                    Ok(some) => all[from..to].iter().zip(some).for_each(|(i, delivery)| picked[*i] = delivery),
                    Err(error) => {
                        let back = Settle::Return { after: std::time::Duration::ZERO, began: false };
                        let items: Vec<_> = picked.into_iter().flatten().map(|d| (d.receipt, back)).collect();
                        // What fails here is owed, and goes back later.
                        drop(self.settle(&items).await);
                        return Err(error);
                    }
                }
                from = to;
            }
        }
        Ok(picked)
    }
}
