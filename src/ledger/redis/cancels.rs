//! Marks of cancelled tasks.

use bytes::Bytes;

use crate::error::StoreError;
use crate::ledger::CancelMark;
use crate::link::redis::Script;
use crate::task::TaskId;

use super::layout::{self, Arg, MARKS, MARKS_ORDER};
use super::store::{self, Pieces, Store};

static MARK: Script = Script::new(include_str!("scripts/mark.lua"));
static UNMARK: Script = Script::new(include_str!("scripts/unmark.lua"));

async fn run(store: &Store, script: &Script, marks: &[CancelMark]) -> Result<(), StoreError> {
    let mut pieces = Pieces::default();
    for piece in layout::pieces(marks, |_| 0) {
        let mut args: Vec<Arg<'_>> = Vec::with_capacity(piece.len() * 2);
        for mark in piece {
            args.push(layout::text(mark.task.as_str()));
            args.push(layout::padded(mark.generation));
        }
        pieces.next(store.run(script, &args).await)?;
    }
    Ok(())
}

/// Adds marks.
pub(super) async fn mark(store: &Store, marks: &[CancelMark]) -> Result<(), StoreError> {
    run(store, &MARK, marks).await
}

/// Removes marks, unless a later sending was marked since.
pub(super) async fn unmark(store: &Store, marks: &[CancelMark]) -> Result<(), StoreError> {
    run(store, &UNMARK, marks).await
}

fn generation(task: &str, bytes: &Bytes) -> Result<u64, StoreError> {
    store::parsed(task, &String::from_utf8_lossy(bytes))
}

/// For each sending, whether it is cancelled.
pub(super) async fn marked(store: &Store, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
    let tasks: Vec<&str> = sendings.iter().map(|sending| sending.task.as_str()).collect();
    let found = store.fields(MARKS, &tasks).await?;
    let one = |(sending, found): (&CancelMark, Option<Bytes>)| {
        let marked = found.map(|found| generation(sending.task.as_str(), &found)).transpose()?;
        Ok(marked.is_some_and(|marked| marked >= sending.generation))
    };
    sendings.iter().zip(found).map(one).collect()
}

/// Marks after `after` in order of their tasks.
pub(super) async fn page(store: &Store, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
    let tasks = store.page(MARKS_ORDER, after.map(TaskId::as_str), max).await?;
    let found = store.fields(MARKS, &tasks).await?;
    let mark = |(task, found): (String, Option<Bytes>)| {
        // One that was taken away between the two looks is passed over.
        let generation = generation(&task, &found?);
        Some(generation.map(|generation| CancelMark { task: TaskId::trusted(task), generation }))
    };
    tasks.into_iter().zip(found).filter_map(mark).collect()
}
