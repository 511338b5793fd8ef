//! Series by a label that clients choose: so many, and then one for all others.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

/// The label of the series of all others. A queue or task of this name is counted there too.
pub const OTHER: &str = "other";

/// Counts the series of one or more maps against one bound.
#[derive(Debug)]
pub struct Places {
    taken: AtomicUsize,
    max: usize,
}

impl Places {
    /// `max` of them are free.
    pub fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    fn take(&self) -> bool {
        let next = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// A map whose values are made when they are first asked for, for as long as there are places.
#[derive(Debug)]
pub struct Bounded<K, V>(RwLock<HashMap<K, Arc<V>>>);

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash + Ord + Clone + Borrow<str>, V: Default> Bounded<K, V> {
    /// The value of a key; `None`: it belongs to all others. A key that has a value keeps it.
    pub fn get(&self, key: &K, places: &Places) -> Option<Arc<V>> {
        if let Some(known) = self.0.read().get::<K>(key) {
            return Some(known.clone());
        }
        if Borrow::<str>::borrow(key) == OTHER {
            return None;
        }
        let mut all = self.0.write();
        if let Some(known) = all.get::<K>(key) {
            return Some(known.clone());
        }
        if !places.take() {
            return None;
        }
        let value = Arc::new(V::default());
        all.insert(key.clone(), value.clone());
        Some(value)
    }

    /// All keys with their values, in order of the keys.
    pub fn all(&self) -> Vec<(K, Arc<V>)> {
        let mut all: Vec<_> = self.0.read().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
