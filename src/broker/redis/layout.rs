//! Which key has what: Machinery's keys as they are, and ours beside them.
//!
//! All keys of a queue are in the cluster slot of its list, whatever braces its name has.

use std::sync::Arc;

use crate::link::redis::beside;
use crate::task::QueueName;

/// Replica id to the number of its beats: who lives.
pub(super) const REPLICAS: &str = "{lineshaft}:replicas";
/// Names of the queues that were ever used.
pub(super) const QUEUES: &str = "{lineshaft}:queues";
/// Messages that come back later, and messages due later whose bodies do not name their queue. Scores in unix ns.
pub(super) const LATER: &str = "{lineshaft}:later";
/// The channel on which it is told that an `again` list has something; the payload is the key of that list.
pub(super) const WAKE: &str = "{lineshaft}:wake";

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
        let stem = beside(queue.as_str());
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

/// Set: what was claimed from the set `delayed` and is on its way to its queues, by the time of the claim. In a cluster
/// only, where no script reaches both.
pub(super) fn moving(delayed: &str) -> String {
    format!("{}:moving", beside(delayed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::redis::slot;

    #[test]
    fn all_keys_of_a_queue_are_in_the_slot_of_its_list() {
        for name in
            ["q", "machinery_tasks", "a{b}c", "{b}", "{}", "}{", "a}b", "{", "}", "a{}b", "{}{x}", "{{x}}", "é}{}"]
        {
            let keys = Keys::of(&QueueName::trusted(name));
            for key in [&keys.inbox, &keys.again, &keys.holders, &keys.held("r"), &moving(name)] {
                assert_eq!(slot(key.as_bytes()), slot(name.as_bytes()), "{key} of {name}");
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
