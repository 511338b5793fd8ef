//! Slots of a cluster: which keys are on one server, and which key of a command says where it goes.

use redis::{Arg, Cmd};

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Commands without a key: any server takes them, and what is published on one is heard on all.
const ANYWHERE: &[&[u8]] =
    &[b"PUBLISH", b"CONFIG", b"PING", b"INFO", b"CLUSTER", b"SCRIPT", b"CLIENT", b"TIME", b"COMMAND"];

/// The part of a key that decides its slot: between the first `{` and the next `}`, if anything is there, else all of it.
fn tag(key: &[u8]) -> &[u8] {
    let open = key.iter().position(|byte| *byte == b'{');
    let rest = open.and_then(|at| key.get(at + 1..)).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'}') {
        Some(end) if end > 0 => &rest[..end],
        _ => key,
    }
}

/// The slot of a key in a cluster, 0 to 16,383.
pub fn slot(key: &[u8]) -> u16 {
    // CRC-16/XMODEM, as the specification of Redis Cluster has it.
    let shift = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    let step = |crc: u16, byte: &u8| (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| shift(crc));
    tag(key).iter().fold(0, step) % SLOTS
}

/// What keys of ours beside a key of others begin with, so that they are of the same slot. Different keys have different
/// beginnings, as these end in `}` or in the `:` of a key whose own tag decides.
pub fn beside(key: &str) -> String {
    if tag(key.as_bytes()).len() < key.len() {
        return format!("{key}:");
    }
    if !key.contains('}') {
        return format!("{{{key}}}");
    }
    // A tag ends at the first brace, so this key cannot be one: another text of the same slot is.
    let wanted = slot(key.as_bytes());
    let found = (0..u32::MAX).map(|n| n.to_string()).find(|n| slot(n.as_bytes()) == wanted).unwrap_or_default();
    format!("{{{found}}}{key}}}")
}

/// A key that never exists, of the slot of `key`.
///
/// While a slot moves, its keys are on two servers. A script that met a missing one half-way would stop there, with half
/// of what it writes. One that names this key, too, is refused before it begins for as long as the slot moves.
pub(super) fn never(key: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(key) {
        Ok(key) => format!("{}:never", beside(key)).into_bytes(),
        // Ours are text; another is its own slot's, if not its own name.
        Err(_) => [b"{", tag(key), b"}:never"].concat(),
    }
}

/// The slot that a command goes to, by its first key; `None`: any server does.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut parts = command.args_iter().map(|part| match part {
        Arg::Simple(bytes) => bytes,
        _ => b"",
    });
    let name = parts.next()?;
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if ANYWHERE.iter().any(|known| is(known)) {
        return None;
    }
    if is(b"EVAL") || is(b"EVALSHA") {
        let _code = parts.next()?;
        let has_keys = parts.next()? != b"0";
        return parts.next().filter(|_| has_keys).map(slot);
    }
    parts.next().map(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), 8_363);
    }

    #[test]
    fn the_key_that_never_exists_is_of_the_same_slot() {
        for key in ["q", "{lineshaft}:token", "a{b}c", "{}", "}{", "a}b", "{q}:held:x"] {
            assert_eq!(slot(&never(key.as_bytes())), slot(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn the_first_key_of_a_command_says_where_it_goes() {
        let of = |parts: &[&str]| slot_of(redis::cmd(parts[0]).arg(&parts[1..]));
        let foo = Some(slot(b"foo"));
        assert_eq!(of(&["RPUSH", "foo", "x"]), foo);
        assert_eq!(of(&["EVALSHA", "abc", "2", "foo", "{foo}:x", "arg"]), foo);
        assert_eq!(of(&["eval", "return 1", "0", "foo"]), None);
        assert_eq!(of(&["PUBLISH", "foo", "x"]), None);
        assert_eq!(of(&["PING"]), None);
    }
}
