//! Messages that a broker without names handed out although nobody here takes their name.
//!
//! Of a shared queue each may be for a worker of another program. Whoever has waited longest at the broker is given what
//! comes, and that is mostly us, since those workers ask anew each second. So a stranger first goes back at once: whoever waits
//! there now has it. Met again, it rests: nobody wanted it, and it must not come round and round.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use parking_lot::Mutex;

/// How long a stranger rests that came back to us.
const REST: Duration = Duration::from_secs(1);
/// Strangers that are remembered for a queue; beyond, all are forgotten and go back at once one more time.
const REMEMBERED_MAX: usize = 8192;

/// Which strangers of a queue went back at once.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<HashSet<u64>>);

impl Strangers {
    /// After what time this body goes back. Two that say the same are one here, which costs the second a rest.
    pub(super) fn rest(&self, body: &[u8]) -> Duration {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let mut returned = self.0.lock();
        if returned.remove(&hasher.finish()) {
            return REST;
        }
        if returned.len() >= REMEMBERED_MAX {
            returned.clear();
        }
        returned.insert(hasher.finish());
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_goes_back_at_once_and_rests_when_it_comes_again() {
        let strangers = Strangers::default();
        for _ in 0..3 {
            assert_eq!([strangers.rest(b"a"), strangers.rest(b"b")], [Duration::ZERO; 2]);
            assert_eq!([strangers.rest(b"a"), strangers.rest(b"b")], [REST; 2]);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let strangers = Strangers::default();
        for n in 0..2 * REMEMBERED_MAX {
            strangers.rest(&n.to_be_bytes());
        }
        assert!(strangers.0.lock().len() <= REMEMBERED_MAX);
    }
}
