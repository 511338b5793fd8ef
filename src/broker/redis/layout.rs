//! Which key has what: Machinery's keys as they are, and ours beside them.
//!
//! All keys of a queue are in the cluster slot of its list, whatever braces its name has.

use std::sync::Arc;

use crate::task::QueueName;

/// Replica id to the number of its beats: who lives.
pub(super) const REPLICAS: &str = "{lineshaft}:replicas";
/// Names of the queues that were ever used.
pub(super) const QUEUES: &str = "{lineshaft}:queues";
/// Messages that come back later, and messages due later whose bodies do not name their queue. Scores in unix ns.
pub(super) const LATER: &str = "{lineshaft}:later";
/// The channel on which it is told that an `again` list has something; the payload is the key of that list.
pub(super) const WAKE: &str = "{lineshaft}:wake";

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// The keys of one queue.
#[derive(Debug)]
pub(super) struct Keys {
    /// The queue's name, and the key of Machinery's list.
    pub(super) queue: QueueName,
    /// List: what a wake-up moved.
    pub(super) inbox: String,
    /// List: frames that only our servers take.
    pub(super) again: String,
    /// Set: replicas that may hold something.
    pub(super) holders: String,
    /// Before the id of a replica: its hash of what it holds, serial to value.
    held: String,
}

impl Keys {
    /// The keys of `queue`.
    pub(super) fn of(queue: &QueueName) -> Arc<Self> {
        let stem = stem(queue.as_str());
        Arc::new(Self {
            queue: queue.clone(),
            inbox: format!("{stem}:inbox"),
            again: format!("{stem}:again"),
            holders: format!("{stem}:holders"),
            held: format!("{stem}:held:"),
        })
    }

    /// The hash of what `replica` holds.
    pub(super) fn held(&self, replica: &str) -> String {
        format!("{}{replica}", self.held)
    }
}

/// What our keys of a queue begin with. Different queues have different ones, as they end in `}` or in the `:` of a name
/// whose own tag decides.
fn stem(queue: &str) -> String {
    if tag(queue).len() < queue.len() {
        return format!("{queue}:");
    }
    if !queue.contains('}') {
        return format!("{{{queue}}}");
    }
    // A tag ends at the first brace, so this name cannot be one: another text of the same slot is.
    let wanted = slot(queue);
    let found = (0..u32::MAX).map(|n| n.to_string()).find(|n| slot(n) == wanted).unwrap_or_default();
    format!("{{{found}}}{queue}}}")
}

/// The part of a key that decides its slot: between the first `{` and the next `}`, if anything is there, else all of it.
fn tag(key: &str) -> &str {
    key.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty())
        .unwrap_or(key)
}

/// The slot of a key in a cluster.
fn slot(key: &str) -> u16 {
    // CRC-16/XMODEM, as the specification of Redis Cluster has it.
    let step = |crc: u16, byte: u8| {
        (0..8).fold(
            crc ^ (u16::from(byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    };
    tag(key).bytes().fold(0, step) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot("123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("foo{}{bar}"), 8_363);
    }

    #[test]
    fn all_keys_of_a_queue_are_in_the_slot_of_its_list() {
        for name in
            ["q", "machinery_tasks", "a{b}c", "{b}", "{}", "}{", "a}b", "{", "}", "a{}b", "{}{x}", "{{x}}", "é}{}"]
        {
            let keys = Keys::of(&QueueName::trusted(name));
            for key in [&keys.inbox, &keys.again, &keys.holders, &keys.held("r")] {
                assert_eq!(slot(key), slot(name), "{key} of {name}");
            }
        }
    }

    #[test]
    fn queues_do_not_share_keys() {
        let names = ["mail", "{mail}", "{mail}:", "mail}", "a}b", "{a}b", "{{a}b", "{}", "{}:"];
        let mut keys: Vec<String> =
            names.iter().map(|name| Keys::of(&QueueName::trusted(*name)).again.clone()).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), names.len());
    }
}
