//! Live leases: granting, looking up, listing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use prost::Message;
use redis::Value;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::{Begun, Grant, Lease, LeaseQuery, LeaseStatus, NOBODY, Standing};
use crate::link::redis::Script;
use crate::task::{FencingToken, LeaseId, MessageKey, QueueName};

use super::attempt::{self, GrantRecord, Head, Open};
use super::layout::{self, Arg, BLOBS, HOLDERS, LEASED, OF, READ_MAX, RECORDS};
use super::store::{self, Pieces, Store};

static BEGIN: Script = Script::new(include_str!("scripts/begin.lua"));
static ORPHANS: Script = Script::new(include_str!("scripts/orphans.lua"));

/// Holders whose leases are looked at in one round trip.
const HOLDERS_AT_ONCE: usize = 64;

/// Whether tasks are marked as cancelled, as far as this replica knows. Almost always none is, and grants are then told
/// without their tasks; a script that knows better asks for them.
#[derive(Debug, Default)]
pub(super) struct Marks(AtomicBool);

impl Marks {
    fn are_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn know(&self, are_there: bool) {
        self.0.store(are_there, Ordering::Relaxed);
    }
}

/// Grants leases.
pub(super) async fn begin(
    store: &Store,
    marks: &Marks,
    grants: &[Grant],
    now: WallTime,
) -> Result<Vec<Begun>, StoreError> {
    let mut begun = Vec::with_capacity(grants.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(grants, |grant| grant.body.as_ref().map_or(0, Bytes::len)) {
        let mut answer = pieces.next(store.run(&BEGIN, &begin_args(piece, now, marks.are_known())).await)?;
        if answer == Value::Int(-1) {
            marks.know(true);
            answer = pieces.next(store.run(&BEGIN, &begin_args(piece, now, true)).await)?;
        }
        match answer {
            Value::Int(base) => {
                let tokens = u64::try_from(base).unwrap_or_default()..;
                let first = |(grant, token)| Begun::Run(attempt::first(grant, FencingToken(token)));
                begun.extend(piece.iter().zip(tokens).map(first));
            }
            each => {
                let mut answers = store::list(each)?.into_iter();
                let mut number = || store::int(&answers.next().unwrap_or(Value::Nil));
                let (mut next, are_marks) = (u64::try_from(number()?).unwrap_or_default(), number()? == 1);
                marks.know(are_marks);
                for (grant, answer) in piece.iter().zip(answers) {
                    begun.push(read_begun(grant, answer, &mut next)?);
                }
            }
        }
    }
    if begun.len() == grants.len() { Ok(begun) } else { Err(store::corrupt("an answer", "too short")) }
}

fn begin_args(grants: &[Grant], now: WallTime, are_marks: bool) -> Vec<Arg<'_>> {
    // Most grants of a batch are for few sessions and queues, which are told once.
    let mut groups = HashMap::new();
    let (mut heads, mut rest) = (Vec::new(), Vec::with_capacity(grants.len() * 5));
    for grant in grants {
        let of = (&grant.session, grant.attach, &grant.queue, &grant.worker, grant.attempts_before);
        let count = groups.len() + 1;
        let group = *groups.entry(of).or_insert_with(|| {
            heads.push(layout::text(grant.session.as_str()));
            heads.push(match grant.attach {
                _ if grant.session.as_str() == NOBODY => layout::text("-"),
                0 => layout::text("0"),
                attach => layout::padded(attach),
            });
            heads.push(layout::text(grant.queue.as_str()));
            heads.push(attempt::holder(grant).into_bytes().into());
            count
        });
        rest.push(layout::number(group));
        rest.push(layout::text(grant.message.as_str()));
        rest.push(GrantRecord::from(grant).encode_to_vec().into());
        if are_marks {
            rest.push(layout::text(grant.task.as_str()));
            rest.push(layout::padded(grant.generation));
        }
    }
    let mut args =
        vec![layout::number(layout::micros(now)), layout::number(u8::from(are_marks)), layout::number(groups.len())];
    args.append(&mut heads);
    args.append(&mut rest);
    args
}

fn read_begun(grant: &Grant, answer: Value, next: &mut u64) -> Result<Begun, StoreError> {
    let run = |kind, lease| if kind == 3 { Begun::Cancelled(lease) } else { Begun::Run(lease) };
    match answer {
        Value::Int(0) => Ok(Begun::NoSession),
        Value::Int(2) => Ok(Begun::Decided),
        Value::Int(kind) => {
            let lease = attempt::first(grant, FencingToken(*next));
            *next += 1;
            Ok(run(kind, lease))
        }
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            let kind = store::int(&parts.next().unwrap_or(Value::Nil))?;
            let head = open(&grant.message, parts.next().map_or(Ok(None), store::bytes)?)?;
            if kind == 4 {
                let blob = parts.next().map_or(Ok(None), store::bytes)?;
                return Ok(Begun::Held(lease(&grant.message, head, blob)?));
            }
            *next += 1;
            Ok(run(kind, head.lease(grant.message.clone(), grant.into())))
        }
        other => store::bytes(other).and_then(|_| Err(store::corrupt("an answer", "a text"))),
    }
}

fn head(message: &MessageKey, bytes: &Bytes) -> Result<Head, StoreError> {
    Head::read(bytes).map_err(|error| store::corrupt(message.as_str(), error))
}

fn open(message: &MessageKey, bytes: Option<Bytes>) -> Result<Open, StoreError> {
    match bytes.map(|bytes| head(message, &bytes)).transpose()? {
        Some(Head::Open(open)) => Ok(open),
        _ => Err(store::corrupt(message.as_str(), "no lease where one should be")),
    }
}

fn lease(message: &MessageKey, open: Open, blob: Option<Bytes>) -> Result<Lease, StoreError> {
    let blob = blob.ok_or_else(|| store::corrupt(message.as_str(), "what was granted is not there"))?;
    Ok(open.lease(message.clone(), store::decode(message.as_str(), blob)?))
}

/// The heads of messages.
async fn heads(store: &Store, messages: &[MessageKey]) -> Result<Vec<Option<Head>>, StoreError> {
    let mut heads = Vec::with_capacity(messages.len());
    for piece in layout::pieces(messages, |_| 0) {
        let found = store.read(&store::hmget(RECORDS, piece.iter().map(MessageKey::as_str))).await?;
        for (message, found) in piece.iter().zip(store::bytes_list(found)?) {
            heads.push(found.map(|found| head(message, &found)).transpose()?);
        }
    }
    Ok(heads)
}

/// Heads and blobs of messages, each pair as of one moment, in pieces that bound what is sent at once.
pub(super) async fn records<'a>(
    store: &Store,
    messages: &'a [MessageKey],
) -> Result<Vec<(&'a MessageKey, Option<Bytes>, Option<Bytes>)>, StoreError> {
    let mut records = Vec::with_capacity(messages.len());
    for piece in messages.chunks(READ_MAX) {
        let mut commands = redis::pipe();
        for key in [RECORDS, BLOBS] {
            commands.add_command(store::hmget(key, piece.iter().map(MessageKey::as_str)));
        }
        let mut answers = store.read_at_once(commands).await?.into_iter().map(store::bytes_list);
        let heads = answers.next().unwrap_or_else(|| Ok(Vec::new()))?;
        let blobs = answers.next().unwrap_or_else(|| Ok(Vec::new()))?;
        records.extend(piece.iter().zip(heads).zip(blobs).map(|((message, head), blob)| (message, head, blob)));
    }
    Ok(records)
}

/// The live leases among these messages, oldest token first.
pub(super) async fn read_live(store: &Store, messages: &[MessageKey]) -> Result<Vec<Lease>, StoreError> {
    let mut leases = Vec::with_capacity(messages.len());
    for (message, found, blob) in records(store, messages).await? {
        let found = found.map(|found| head(message, &found)).transpose()?;
        // Ended meanwhile: it is not live any more.
        if let Some(Head::Open(open)) = found
            && open.is_live
        {
            leases.push(lease(message, open, blob)?);
        }
    }
    leases.sort_by_key(|lease| lease.id.token);
    Ok(leases)
}

/// What is known of leases.
pub(super) async fn lookup(store: &Store, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError> {
    let messages: Vec<MessageKey> = leases.iter().map(|lease| lease.message.clone()).collect();
    let records = records(store, &messages).await?;
    let status = |(id, (message, found, blob)): (&LeaseId, (&MessageKey, Option<Bytes>, _))| {
        let found = found.map(|found| head(message, &found)).transpose()?;
        Ok(match found.filter(|found| found.token() == id.token) {
            None => LeaseStatus::Gone,
            Some(Head::Decided { .. }) => LeaseStatus::Decided,
            Some(Head::Open(open)) if open.is_live => LeaseStatus::Live(lease(message, open, blob)?),
            Some(Head::Open(open)) => LeaseStatus::Released(lease(message, open, blob)?),
        })
    };
    leases.iter().zip(records).map(status).collect()
}

/// How messages stand.
pub(super) async fn standing(store: &Store, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError> {
    let heads = heads(store, messages).await?;
    let standing = |(message, head): (_, Option<Head>)| head.map_or(Standing::Open, |head| head.standing(message));
    Ok(messages.iter().zip(heads).map(standing).collect())
}

async fn holders(store: &Store) -> Result<Vec<String>, StoreError> {
    store::texts(store.read(redis::cmd("SMEMBERS").arg(HOLDERS)).await?)
}

/// Live leases, oldest first. Reads the heads of all that may be meant, and the bodies of those that are answered.
pub(super) async fn list(store: &Store, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
    let holders = match &query.session {
        Some(session) => vec![session.to_string()],
        None => holders(store).await?,
    };
    oldest(store, &holders, query).await
}

async fn oldest(store: &Store, holders: &[String], query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
    let is_wanted = |open: &Open| {
        open.is_live
            && open.token > query.after
            && query.queue.as_ref().is_none_or(|queue| open.queue == queue.as_str())
    };
    let mut found = BTreeMap::new();
    for some in holders.chunks(HOLDERS_AT_ONCE) {
        let mut commands = redis::pipe();
        for holder in some {
            commands.cmd("SMEMBERS").arg(format!("{OF}{holder}"));
        }
        for answer in store.read_all(&commands).await? {
            let messages: Vec<MessageKey> = store::texts(answer)?.into_iter().map(MessageKey::trusted).collect();
            for (message, head) in messages.iter().zip(heads(store, &messages).await?) {
                if let Some(Head::Open(open)) = head
                    && is_wanted(&open)
                {
                    found.insert(open.token, message.clone());
                }
            }
        }
    }
    let messages: Vec<MessageKey> = found.into_values().collect();
    let mut leases = Vec::new();
    for piece in messages.chunks(READ_MAX.min(query.max.max(1))) {
        if leases.len() >= query.max {
            break;
        }
        leases.extend(read_live(store, piece).await?);
    }
    leases.truncate(query.max);
    Ok(leases)
}

/// Live leases whose session does not exist, oldest first.
pub(super) async fn orphans(store: &Store, max: usize) -> Result<Vec<Lease>, StoreError> {
    let mut without = Vec::new();
    for some in holders(store).await?.chunks(HOLDERS_AT_ONCE) {
        let args: Vec<_> = some.iter().map(|holder| layout::text(holder)).collect();
        without.extend(store::texts(store.run(&ORPHANS, &args).await?)?);
    }
    oldest(store, &without, &LeaseQuery { max, ..LeaseQuery::default() }).await
}

/// How many leases are live in each queue.
pub(super) async fn counts(store: &Store) -> Result<Vec<(QueueName, u64)>, StoreError> {
    let all = store::text_pairs(store.read(redis::cmd("HGETALL").arg(LEASED)).await?)?;
    let one = |(queue, count): (String, String)| Ok((QueueName::trusted(queue), store::parsed("a count", &count)?));
    let mut counts: Vec<(QueueName, u64)> = all.into_iter().map(one).collect::<Result<_, StoreError>>()?;
    counts.sort();
    Ok(counts)
}
