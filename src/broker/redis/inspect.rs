//! Looking into lists and sets that others change meanwhile.
//!
//! Lists have no numbers that stay. A position is the place of the last message that was seen and a digest of it: the
//! next page looks for it where it was and in front of that, as what others take moves it there. Where it is gone, all
//! before it are too, as lists are taken from the head; the next page begins there.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use sha2::{Digest, Sha256};

use super::frame::{self, Frame, Later};
use super::layout::LATER;
use super::queue::Queue;
use super::{BATCH_BYTES_MAX, Inner, bytes, pick, read, told};
use crate::broker::{Depth, Inspect, PendingPage, PendingQuery, Place, Waiting};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::Access;
use crate::task::QueueName;

/// Most values read in one round trip; fewer where bodies are large.
const CHUNK: usize = 64;
/// Members of a set, whose sizes are not known beforehand, read in one round trip.
const MEMBERS: usize = 32;
/// How far in front of its place the last message is looked for.
const SEARCHED_MAX: usize = 4_096;
/// Delayed messages, of all queues, that one question looks at. A page that ends there may be short or empty; depths
/// count what is among the first.
const SCANNED_MAX: usize = 10_000;
/// Queues that are looked at in one round trip.
const PAGE: usize = 256;

/// Eight bytes of a digest.
type Print = u64;

fn print(value: &[u8]) -> Print {
    let digest = Sha256::digest(value);
    digest.iter().take(8).fold(0, |print, byte| (print << 8) | u64::from(*byte))
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Position {
    /// In one of the three lists, after the message at this index.
    List { list: usize, index: usize, print: Print },
    /// In the sets of what is delayed: after one member of each.
    Sets([Mark; 2]),
}

/// A place in a set.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mark {
    score: f64,
    /// Of the last member; 0: before all of that score.
    print: Print,
}

impl Position {
    fn write(self) -> Vec<u8> {
        match self {
            Self::List { list, index, print } => format!("l{list}{index:016x}{print:016x}").into_bytes(),
            Self::Sets(marks) => {
                let [a, b] = marks.map(|mark| format!("{:016x}{:016x}", mark.score.to_bits(), mark.print));
                format!("s{a}{b}").into_bytes()
            }
        }
    }

    fn read(position: &[u8]) -> Result<Self, StoreError> {
        Self::parse(position).ok_or(StoreError::Position)
    }

    fn parse(position: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(position).ok().filter(|text| text.is_ascii())?;
        let number = |at: usize| u64::from_str_radix(text.get(at..at + 16)?, 16).ok();
        let parsed = match text.get(..1)? {
            "l" => {
                let list = text.get(1..2)?.parse().ok().filter(|list| *list < 3)?;
                Self::List { list, index: number(2)?.try_into().ok()?, print: number(18)? }
            }
            "s" => {
                let mark = |at| Some(Mark { score: f64::from_bits(number(at)?), print: number(at + 16)? });
                Self::Sets([mark(1)?, mark(33)?]).finite()?
            }
            _ => return None,
        };
        // One form for each position: what is longer is none.
        (parsed.write() == position).then_some(parsed)
    }

    fn finite(self) -> Option<Self> {
        match self {
            Self::Sets(marks) if marks.iter().any(|mark| !mark.score.is_finite()) => None,
            other => Some(other),
        }
    }
}

/// A page that is being filled.
struct Filling<'a> {
    query: &'a PendingQuery<'a>,
    items: Vec<Waiting>,
    bytes: usize,
    last: Option<Position>,
}

impl Filling<'_> {
    fn is_full(&self) -> bool {
        self.items.len() >= self.query.max.get() || self.bytes >= self.query.body_bytes_max
    }

    fn add(&mut self, waiting: Waiting, position: Position) {
        self.bytes += waiting.body.len();
        self.items.push(waiting);
        self.last = Some(position);
    }

    fn end(self, follows: bool) -> PendingPage {
        PendingPage { next: self.last.filter(|_| follows).map(Position::write), items: self.items }
    }
}

/// Members of one set, from a mark on, read as they are asked for.
struct Members<'a> {
    inner: &'a Inner,
    key: &'a str,
    from: Mark,
    offset: usize,
    read: std::vec::IntoIter<(Bytes, f64)>,
    next: Option<(Bytes, f64)>,
    is_over: bool,
}

impl<'a> Members<'a> {
    async fn open(inner: &'a Inner, key: &'a str, from: Mark) -> Result<Self, StoreError> {
        let read = Vec::new().into_iter();
        let mut members = Self { inner, key, from, offset: 0, read, next: None, is_over: false };
        members.step().await?;
        if from.print != 0 {
            // Past the one that was seen last; if it is gone, from the first of its score.
            while let Some((member, score)) = &members.next {
                if *score > from.score {
                    let again = Mark { print: 0, ..from };
                    let mut first =
                        Self { from: again, offset: 0, read: Vec::new().into_iter(), next: None, ..members };
                    first.is_over = false;
                    first.step().await?;
                    return Ok(first);
                }
                let found = print(member) == from.print;
                members.step().await?;
                if found {
                    return Ok(members);
                }
            }
        }
        Ok(members)
    }

    async fn step(&mut self) -> Result<(), StoreError> {
        self.next = self.read.next();
        if self.next.is_some() || self.is_over {
            return Ok(());
        }
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(self.key).arg(self.from.score).arg("+inf").arg("WITHSCORES");
        command.arg("LIMIT").arg(self.offset).arg(MEMBERS);
        let answer = self.inner.link.command(Access::Read, &command).await.map_err(told)?;
        let mut values = read::<Vec<Value>>(answer, "a set of what is delayed")?.into_iter();
        let mut found = Vec::new();
        while let (Some(member), Some(score)) = (values.next(), values.next()) {
            found.push((bytes(member)?, read(score, "a score")?));
        }
        self.offset += found.len();
        self.is_over = found.len() < MEMBERS;
        self.read = found.into_iter();
        self.next = self.read.next();
        Ok(())
    }
}

impl Inner {
    /// What is delayed: Machinery's set, and ours.
    pub(super) fn sets(&self) -> [&str; 2] {
        [&self.options.delayed_tasks_key, LATER]
    }

    /// What a delayed member is to one queue; `None`: it is another queue's. `set`: 0 Machinery's, 1 ours.
    fn waiting_in(&self, queue: &Queue, set: usize, member: &Bytes, score: f64) -> Option<Waiting> {
        let name = queue.keys.queue.as_str();
        if set == 0 {
            let to = frame::routing_key(member).unwrap_or(self.options.default_queue.as_str());
            let at = WallTime(score as u64);
            let place = self.delayed_place(pick::DELAYED, member);
            return (to == name).then(|| Waiting { key: None, body: member.clone(), available_at: Some(at), place });
        }
        let later = Later::read(member)?;
        let Frame { key, body, .. } = later.frame;
        (later.target == name || later.target == queue.keys.again).then_some(Waiting {
            key,
            body,
            available_at: Some(later.due),
            place: self.delayed_place(pick::LATER, member),
        })
    }

    /// Fills a page from one list; `true`: something of it is left.
    async fn fill_from(
        &self,
        filling: &mut Filling<'_>,
        queue: &Queue,
        (list, key): (usize, &str),
        after: Option<(usize, Print)>,
    ) -> Result<bool, StoreError> {
        let chunk = (BATCH_BYTES_MAX / queue.usual()).clamp(1, CHUNK);
        let mut index = match after {
            None => 0,
            Some((index, print)) => self.behind(key, index, print, chunk).await?,
        };
        loop {
            let values = self.range(key, index, chunk).await?;
            let count = values.len();
            for value in values {
                if filling.is_full() {
                    return Ok(true);
                }
                let position = Position::List { list, index, print: print(&value) };
                let frame = Some(&value).filter(|_| list == 0).and_then(Frame::read);
                let (key, body) = frame.map_or_else(|| (None, value.clone()), |frame| (frame.key, frame.body));
                let place = Some(Place { part: pick::LISTS[list], depth: index, value });
                filling.add(Waiting { key, body, available_at: None, place }, position);
                index += 1;
            }
            if count < chunk {
                return Ok(false);
            }
        }
    }

    /// The index behind the message that was at `index`, or nearer to the head meanwhile.
    async fn behind(&self, key: &str, index: usize, seen: Print, chunk: usize) -> Result<usize, StoreError> {
        // What was returned to the head since moves others away from it, by little.
        let mut end = index + chunk;
        let until = index.saturating_sub(SEARCHED_MAX);
        while end > until {
            let start = end.saturating_sub(chunk).max(until);
            let values = self.range(key, start, end - start).await?;
            if let Some(at) = values.iter().rposition(|value| print(value) == seen) {
                return Ok(start + at + 1);
            }
            end = start;
        }
        Ok(0)
    }

    /// Values of a list.
    pub(super) async fn range(&self, key: &str, start: usize, count: usize) -> Result<Vec<Bytes>, StoreError> {
        let mut command = redis::cmd("LRANGE");
        command.arg(key).arg(start).arg((start + count).saturating_sub(1));
        let values = self.link.command(Access::Read, &command).await.map_err(told)?;
        read::<Vec<Value>>(values, "a list")?.into_iter().map(bytes).collect()
    }

    /// Calls `see` with each delayed member of both sets, up to a bound.
    async fn scan_delayed(&self, mut see: impl FnMut(usize, &Bytes)) -> Result<(), StoreError> {
        for (set, key) in self.sets().into_iter().enumerate() {
            let mut members = Members::open(self, key, Mark::default()).await?;
            for _ in 0..SCANNED_MAX {
                let Some((member, _)) = &members.next else { break };
                see(set, member);
                members.step().await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Inspect for Inner {
    async fn pending(&self, query: &PendingQuery<'_>) -> Result<PendingPage, StoreError> {
        let after = query.after.map(Position::read).transpose()?;
        let queue = self.queue(query.queue);
        let mut filling = Filling { query, items: Vec::new(), bytes: 0, last: after };
        let mut marks = [Mark::default(); 2];
        let first_list = match after {
            None => 0,
            Some(Position::List { list, .. }) => list,
            Some(Position::Sets(at)) => {
                marks = at;
                3
            }
        };
        let lists = [queue.keys.again.as_str(), &queue.keys.inbox, queue.keys.queue.as_str()];
        for (list, key) in lists.into_iter().enumerate().skip(first_list) {
            let after = match after {
                Some(Position::List { list: at, index, print }) if at == list => Some((index, print)),
                _ => None,
            };
            if self.fill_from(&mut filling, &queue, (list, key), after).await? {
                return Ok(filling.end(true));
            }
        }
        if !query.delayed {
            return Ok(filling.end(false));
        }
        let [ours, later] = self.sets();
        let mut sets = [Members::open(self, ours, marks[0]).await?, Members::open(self, later, marks[1]).await?];
        for scanned in 0.. {
            let due = |set: &Members<'_>| set.next.as_ref().map(|(_, score)| *score);
            let set = match (due(&sets[0]), due(&sets[1])) {
                (None, None) => break,
                (Some(a), Some(b)) => usize::from(b < a),
                (a, _) => usize::from(a.is_none()),
            };
            let Some((member, score)) = sets[set].next.clone() else { break };
            let waiting = self.waiting_in(&queue, set, &member, score);
            if scanned >= SCANNED_MAX || (waiting.is_some() && filling.is_full()) {
                filling.last = Some(Position::Sets(marks));
                return Ok(filling.end(true));
            }
            marks[set] = Mark { score, print: print(&member).max(1) };
            if let Some(waiting) = waiting {
                filling.add(waiting, Position::Sets(marks));
            }
            sets[set].step().await?;
        }
        Ok(filling.end(false))
    }

    async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Vec<QueueName>, StoreError> {
        let mut names: BTreeSet<QueueName> = self.known_queues().await?.into_iter().collect();
        names.insert(self.options.default_queue.clone());
        let mut delayed: BTreeSet<String> = BTreeSet::new();
        let default = self.options.default_queue.as_str();
        self.scan_delayed(|set, member| {
            let target = match set {
                0 => Some(frame::routing_key(member).unwrap_or(default).to_owned()),
                _ => Later::read(member).map(|later| later.target),
            };
            delayed.extend(target);
        })
        .await?;
        let asked_for = |name: &QueueName| name.as_str().starts_with(prefix) && after.is_none_or(|after| name > after);
        let names: Vec<QueueName> = names.into_iter().filter(asked_for).collect();
        let mut found = Vec::new();
        for names in names.chunks(PAGE) {
            let mut asked = redis::pipe();
            for name in names {
                let keys = &self.queue(name).keys;
                asked.cmd("EXISTS").arg(name.as_str()).arg(&keys.inbox).arg(&keys.again);
            }
            for (name, lists) in names.iter().zip(self.look(&asked).await?) {
                let is_delayed = || delayed.contains(name.as_str()) || delayed.contains(&self.queue(name).keys.again);
                if lists != Value::Int(0) || is_delayed() {
                    found.push(name.clone());
                }
                if found.len() == max {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, StoreError> {
        let mut delayed: HashMap<String, u64> = HashMap::new();
        let default = self.options.default_queue.as_str();
        self.scan_delayed(|set, member| {
            let target = match set {
                0 => Some(frame::routing_key(member).unwrap_or(default).to_owned()),
                _ => Later::read(member).map(|later| later.target),
            };
            if let Some(target) = target {
                *delayed.entry(target).or_default() += 1;
            }
        })
        .await?;
        let mut depths = Vec::with_capacity(queues.len());
        for names in queues.chunks(PAGE) {
            let mut asked = redis::pipe();
            for name in names {
                let keys = &self.queue(name).keys;
                for key in [keys.again.as_str(), &keys.inbox, name.as_str()] {
                    asked.cmd("LLEN").arg(key).cmd("LINDEX").arg(key).arg(0);
                }
            }
            let mut found = self.look(&asked).await?.into_iter();
            for name in names {
                let mut depth = Depth::default();
                for list in 0..3 {
                    depth.waiting += found.next().map_or(Ok(0), |value| read::<u64>(value, "a length"))?;
                    if let (Some(Value::BulkString(value)), None) = (found.next(), &depth.oldest) {
                        let value = Bytes::from(value);
                        let frame = Some(&value).filter(|_| list == 0).and_then(Frame::read);
                        depth.oldest = Some(frame.map_or(value, |frame| frame.body));
                    }
                }
                let again = &self.queue(name).keys.again;
                depth.delayed = [name.as_str(), again].iter().filter_map(|target| delayed.get(*target)).sum();
                depths.push(depth);
            }
        }
        Ok(depths)
    }
}
