//! Until when tasks may be begun: an index alone, in order of the bytes of its entries.

use redis::Cmd;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::Lifetime;
use crate::task::TaskId;

use super::layout::{ITEMS_MAX, LIFETIMES};
use super::store::{self, Pieces, Store};

/// Between task and generation: ids have no control characters.
const BETWEEN: char = '\u{1}';
/// Digits of a moment, unix ns, and of a generation.
const DIGITS: usize = 20;

/// The entry of a lifetime: moment, task, generation, padded so that bytes are in the order of lifetimes.
pub(super) fn entry(lifetime: &Lifetime) -> String {
    let Lifetime { at, task, generation } = lifetime;
    format!("{:020}{task}{BETWEEN}{generation:020}", at.0)
}

fn read(entry: &str) -> Result<Lifetime, StoreError> {
    let parts = || {
        let (at, rest) = entry.split_at_checked(DIGITS)?;
        let (task, generation) = rest.split_once(BETWEEN)?;
        Some(Lifetime {
            at: WallTime(at.parse().ok()?),
            task: TaskId::trusted(task),
            generation: generation.parse().ok()?,
        })
    };
    parts().ok_or_else(|| store::corrupt("a lifetime", "not a moment, a task and a generation"))
}

/// Remembers lifetimes.
pub(super) async fn limit(store: &Store, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
    let mut pieces = Pieces::default();
    for piece in lifetimes.chunks(ITEMS_MAX) {
        pieces.next(store.write(&limiting(piece)).await)?;
    }
    Ok(())
}

/// The command that remembers lifetimes.
pub(super) fn limiting(lifetimes: &[Lifetime]) -> Cmd {
    let mut command = redis::cmd("ZADD");
    command.arg(LIFETIMES);
    for lifetime in lifetimes {
        command.arg(0).arg(entry(lifetime));
    }
    command
}

/// Lifetimes that are over at `now`, after `after`.
pub(super) async fn over(
    store: &Store,
    now: WallTime,
    after: Option<&Lifetime>,
    max: usize,
) -> Result<Vec<Lifetime>, StoreError> {
    let from = after.map_or_else(|| "-".to_owned(), |after| format!("({}", entry(after)));
    let to = now.0.checked_add(1).map_or_else(|| "+".to_owned(), |end| format!("({end:020}"));
    let mut command = redis::cmd("ZRANGEBYLEX");
    command.arg(LIFETIMES).arg(from).arg(to).arg("LIMIT").arg(0).arg(store::limit(max));
    store::texts(store.read(&command).await?)?.iter().map(|entry| read(entry)).collect()
}

/// Forgets lifetimes.
pub(super) async fn forget(store: &Store, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
    let mut pieces = Pieces::default();
    for piece in lifetimes.chunks(ITEMS_MAX) {
        let mut command = redis::cmd("ZREM");
        command.arg(LIFETIMES);
        for lifetime in piece {
            command.arg(entry(lifetime));
        }
        pieces.next(store.write(&command).await)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_order_of_lifetimes_and_read_as_they_were_written() {
        let lifetime =
            |at, task: &str, generation| Lifetime { at: WallTime(at), task: TaskId::trusted(task), generation };
        let sorted = [
            lifetime(9, "z", u64::MAX),
            lifetime(10, "a", 9),
            lifetime(10, "a", 10),
            lifetime(10, "a b", 1),
            lifetime(10, "ab", 0),
            lifetime(u64::MAX, "a", 0),
        ];
        let entries: Vec<String> = sorted.iter().map(entry).collect();
        assert!(sorted.is_sorted() && entries.is_sorted(), "{entries:?}");
        let read: Result<Vec<Lifetime>, StoreError> = entries.iter().map(|entry| read(entry)).collect();
        assert_eq!(read.as_deref(), Ok(&sorted[..]));
        assert!(super::read("00000000000000000001a").is_err());
    }
}
