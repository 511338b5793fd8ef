//! Which keys the ledger has, how numbers are written in them, and how much one script is given.
//!
//! All keys have the same tag, so that they are in one slot and scripts are atomic over all of them, in a cluster too.
//! Scripts name the keys that they need by themselves: see `scripts/`.

use std::borrow::Cow;

use crate::clock::WallTime;

/// Message → the head of its record, see [`super::attempt`]. Also what scripts are routed by.
pub(super) const RECORDS: &str = "{lineshaft}:records";
/// Message → the rest of its record: the grant, and once it is decided the effects, until they are done.
pub(super) const BLOBS: &str = "{lineshaft}:blobs";
/// Sessions that have, or had a moment ago, live leases.
pub(super) const HOLDERS: &str = "{lineshaft}:holders";
/// And a session: the messages of its live leases. In no order: they are put in order where they are listed, which only
/// people ask for, and a set costs least while they come and go.
pub(super) const OF: &str = "{lineshaft}:of:";
/// Queue → number of live leases.
pub(super) const LEASED: &str = "{lineshaft}:leased";
/// µs → message: when released and done records are forgotten; and [`UNDONE_AT`] later than they were decided, the
/// decisions whose effects are not done. One index, so that what is done is moved in it, not added and removed.
pub(super) const ENDS: &str = "{lineshaft}:ends";
/// Session → [`crate::ledger::record::SessionRecord`].
pub(super) const SESSIONS: &str = "{lineshaft}:sessions";
/// All with score 0 → session: in order of their ids.
pub(super) const SESSIONS_ORDER: &str = "{lineshaft}:sessions:order";
/// Session → its renewal number.
pub(super) const RENEWALS: &str = "{lineshaft}:renewals";
/// Message → [`crate::ledger::record::DeadRecord`].
pub(super) const DEAD: &str = "{lineshaft}:dead";
/// All with score 0 → message: in order of their keys.
pub(super) const DEAD_ORDER: &str = "{lineshaft}:dead:order";
/// Message → the generation under which its dead task is requeued.
pub(super) const DEAD_REQUEUE: &str = "{lineshaft}:dead:requeue";
/// Task → the latest generation that is cancelled.
pub(super) const MARKS: &str = "{lineshaft}:marks";
/// All with score 0 → task: in order of their ids.
pub(super) const MARKS_ORDER: &str = "{lineshaft}:marks:order";
/// Queue → since when it is paused, unix ns.
pub(super) const PAUSED: &str = "{lineshaft}:paused";
/// `r` and a request id, or `k` and an idempotency key → the head of a claim, see [`super::claims`].
pub(super) const CLAIMS: &str = "{lineshaft}:claims";
/// The same → what a claim that is not published holds.
pub(super) const CLAIMS_OPEN: &str = "{lineshaft}:claims:open";
/// All with score 0 → moment, task and generation: until when tasks may be begun, see [`super::lifetimes`].
pub(super) const LIFETIMES: &str = "{lineshaft}:lifetimes";
/// And a join: what it is and how far, see [`super::joins`].
pub(super) const JOIN: &str = "{lineshaft}:join:";
/// And a join: its members in order.
pub(super) const JOIN_MEMBERS: &str = "{lineshaft}:join-members:";
/// And a join: member → how it ended.
pub(super) const JOIN_ENDS: &str = "{lineshaft}:join-ends:";
/// µs → join that is not closed: when it is looked at; 0: it is full.
pub(super) const JOINS: &str = "{lineshaft}:joins";
/// The channel of notices.
pub(super) const NOTICES: &str = "{lineshaft}:notices";

/// Most items of one script call: what Redis does meanwhile is nothing else.
pub(super) const ITEMS_MAX: usize = 256;
/// Most bytes of bodies of one script call, unless one item alone is larger: Lua looks at every byte.
pub(super) const BYTES_MAX: usize = 256 * 1024;
/// Most records read in one call, each maybe with a body.
pub(super) const READ_MAX: usize = 64;

/// In [`ENDS`], what is undone stands behind all moments: its sixteen digits with a one before them. There the index knows
/// two microseconds. Scripts have this number too.
pub(super) const UNDONE_AT: u64 = 10_000_000_000_000_000;
/// The last moment that is told apart from later ones, in the year 2255: up to 2^53 numbers of Lua are exact.
const MICROS_MAX: u64 = 9_000_000_000_000_000;

/// An argument of a script.
pub(super) type Arg<'a> = Cow<'a, [u8]>;

/// A text as an argument.
pub(super) fn text(text: &str) -> Arg<'_> {
    Cow::Borrowed(text.as_bytes())
}

/// A number as an argument, as short as it is.
pub(super) fn number(number: impl ToString) -> Arg<'static> {
    Cow::Owned(number.to_string().into_bytes())
}

/// A number of 64 bits, padded so that it is compared as text.
pub(super) fn padded(number: u64) -> Arg<'static> {
    Cow::Owned(format!("{number:020}").into_bytes())
}

/// A moment in µs, the one at or before it.
pub(super) fn micros(at: WallTime) -> u64 {
    (at.0 / 1_000).min(MICROS_MAX)
}

/// A moment in µs, the one at or after it: what is to happen at it never happens early.
pub(super) fn micros_up(at: WallTime) -> u64 {
    at.0.div_ceil(1_000).min(MICROS_MAX)
}

/// Items in pieces that one script may be given.
pub(super) fn pieces<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut pieces = Vec::with_capacity(items.len().div_ceil(ITEMS_MAX));
    let (mut start, mut sum) = (0, 0_usize);
    for (at, item) in items.iter().enumerate() {
        let more = bytes(item);
        if at > start && (at - start == ITEMS_MAX || sum.saturating_add(more) > BYTES_MAX) {
            pieces.extend(items.get(start..at));
            (start, sum) = (at, 0);
        }
        sum = sum.saturating_add(more);
    }
    pieces.extend(items.get(start..).filter(|rest| !rest.is_empty()));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_in_number_and_bytes_and_lose_nothing() {
        let lengths = |items: &[usize]| pieces(items, |bytes| *bytes).iter().map(|p| p.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[0; ITEMS_MAX]), [ITEMS_MAX]);
        assert_eq!(lengths(&[0; ITEMS_MAX + 1]), [ITEMS_MAX, 1]);
        assert_eq!(lengths(&[BYTES_MAX, 1, BYTES_MAX - 1, 1]), [1, 2, 1]);
        assert_eq!(lengths(&[BYTES_MAX * 4, BYTES_MAX * 4]), [1, 1]);
    }

    #[test]
    fn moments_are_rounded_to_the_side_that_is_asked_for() {
        assert_eq!((micros(WallTime(1_999)), micros_up(WallTime(1_001))), (1, 2));
        assert_eq!((micros(WallTime(2_000)), micros_up(WallTime(2_000))), (2, 2));
        assert_eq!(micros_up(WallTime(u64::MAX)), MICROS_MAX);
    }

    #[test]
    fn every_key_of_a_script_is_described() {
        let room = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ledger/redis");
        let described = std::fs::read_to_string(room.join("README.md")).unwrap();
        for script in std::fs::read_dir(room.join("scripts")).unwrap() {
            let path = script.unwrap().path();
            let code = std::fs::read_to_string(&path).unwrap();
            for key in code.split('\'').filter(|part| part.starts_with('{')) {
                let name = key.strip_prefix("{lineshaft}").unwrap_or_else(|| panic!("{}: {key}", path.display()));
                let is_known = described.contains(&format!("`{name}`")) || described.contains(&format!("`{name}<"));
                assert!(is_known, "{}: {key} is not in README.md", path.display());
            }
        }
    }
}
