//! Tasks set aside.

use prost::Message;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::DeadTask;
use crate::ledger::record::DeadRecord;
use crate::link::redis::Script;
use crate::task::MessageKey;

use super::layout::{self, Arg, DEAD, DEAD_ORDER, DEAD_REQUEUE, READ_MAX};
use super::store::{self, Pieces, Store};

static BURY: Script = Script::new(include_str!("scripts/bury.lua"));
static REQUEUE: Script = Script::new(include_str!("scripts/requeue.lua"));
static UNBURY: Script = Script::new(include_str!("scripts/unbury.lua"));
static SWEEP: Script = Script::new(include_str!("scripts/sweep_dead.lua"));

/// Dead tasks forgotten in one call: each may have a body of a MiB, which Redis gives back to its memory meanwhile.
const SWEEP_MAX: usize = 100;

/// What a script is told of a task that is set aside.
pub(super) fn push_args<'a>(args: &mut Vec<Arg<'a>>, dead: &'a DeadTask, record: Arg<'a>) {
    args.push(layout::text(dead.message.as_str()));
    args.push(record);
    args.push(layout::number(layout::micros_up(dead.at)));
    args.push(dead.requeue.map_or(layout::text(""), layout::number));
}

/// Sets tasks aside.
pub(super) async fn bury(store: &Store, dead: &[DeadTask]) -> Result<(), StoreError> {
    let mut pieces = Pieces::default();
    for piece in layout::pieces(dead, |dead| dead.body.len()) {
        let mut args = Vec::with_capacity(piece.len() * 4);
        for dead in piece {
            push_args(&mut args, dead, DeadRecord::from(dead).encode_to_vec().into());
        }
        pieces.next(store.run(&BURY, &args).await)?;
    }
    Ok(())
}

/// Dead tasks after `after`.
pub(super) async fn page(store: &Store, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError> {
    let messages = store.page(DEAD_ORDER, after.map(MessageKey::as_str), max).await?;
    let messages: Vec<MessageKey> = messages.into_iter().map(MessageKey::trusted).collect();
    // One that was forgotten between the two looks is passed over.
    Ok(read(store, &messages).await?.into_iter().flatten().collect())
}

/// The dead tasks of messages.
pub(super) async fn read(store: &Store, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError> {
    let mut found = Vec::with_capacity(messages.len());
    for piece in messages.chunks(READ_MAX) {
        let mut commands = redis::pipe();
        for key in [DEAD, DEAD_REQUEUE] {
            commands.add_command(store::hmget(key, piece.iter().map(MessageKey::as_str)));
        }
        let mut answers = store.read_at_once(commands).await?.into_iter().map(store::bytes_list);
        let records = answers.next().unwrap_or_else(|| Ok(Vec::new()))?;
        let generations = answers.next().unwrap_or_else(|| Ok(Vec::new()))?;
        for (message, (record, generation)) in piece.iter().zip(records.into_iter().zip(generations)) {
            let Some(record) = record else {
                found.push(None);
                continue;
            };
            let dead: DeadTask = store::decode::<DeadRecord>(message.as_str(), record)?.into();
            let generation = generation.map(|text| store::parsed("a generation", &String::from_utf8_lossy(&text)));
            found.push(Some(DeadTask { requeue: generation.transpose()?, ..dead }));
        }
    }
    Ok(found)
}

/// Records generations with dead tasks that have none.
pub(super) async fn begin_requeue(
    store: &Store,
    items: &[(MessageKey, u64)],
) -> Result<Vec<Option<DeadTask>>, StoreError> {
    let mut pieces = Pieces::default();
    for piece in layout::pieces(items, |_| 0) {
        let mut args = Vec::with_capacity(piece.len() * 2);
        for (message, generation) in piece {
            args.push(layout::text(message.as_str()));
            args.push(layout::number(generation));
        }
        pieces.next(store.run(&REQUEUE, &args).await)?;
    }
    let messages: Vec<MessageKey> = items.iter().map(|(message, _)| message.clone()).collect();
    pieces.next(read(store, &messages).await)
}

/// Forgets dead tasks.
pub(super) async fn forget(store: &Store, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
    let mut were_there = Vec::with_capacity(messages.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(messages, |_| 0) {
        let args: Vec<_> = piece.iter().map(|message| layout::text(message.as_str())).collect();
        for answer in store::list(pieces.next(store.run(&UNBURY, &args).await)?)? {
            were_there.push(store::int(&answer)? == 1);
        }
    }
    Ok(were_there)
}

/// Forgets dead tasks that were set aside before `before`, oldest first.
pub(super) async fn sweep(store: &Store, before: WallTime) -> Result<usize, StoreError> {
    store.sweep(&SWEEP, layout::micros_up(before), SWEEP_MAX).await
}
