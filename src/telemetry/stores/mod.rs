//! Calls of stores, measured: wrappers around the four seams that count time and errors by method and pass everything on,
//! every optional view too. Rooms stay bare, and a server that tells no metrics has no wrapper.
//!
//! A call that was given up is not counted. Waiting for tasks ([`crate::broker::Broker::ready`]) takes as long as none
//! comes: only its errors are.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::exposition::Exposition;
use super::histogram::{Histogram, STORE_BOUNDS};
use super::table;
use crate::clock::Instant;
use crate::error::StoreError;

mod backend;
mod broker;
mod fused;
mod ledger;

/// Kinds of errors, each at its place in [`Method::errors`].
const KINDS: [&str; 6] = ["unavailable", "full", "outcome_unknown", "stale", "position", "corrupt"];

fn kind(error: &StoreError) -> usize {
    match error {
        StoreError::Unavailable { .. } => 0,
        StoreError::Full { .. } => 1,
        StoreError::OutcomeUnknown { .. } => 2,
        StoreError::Stale => 3,
        StoreError::Position => 4,
        StoreError::Corrupt { .. } => 5,
    }
}

/// The calls of all measured rooms.
#[derive(Debug, Default)]
pub struct Stores(Mutex<Vec<Arc<Room>>>);

/// The calls of one room.
#[derive(Debug)]
struct Room {
    seam: &'static str,
    name: &'static str,
    /// Each method with its name.
    methods: Box<[(&'static str, Method)]>,
}

/// The calls of one method.
#[derive(Debug)]
struct Method {
    times: Histogram,
    errors: [AtomicU64; KINDS.len()],
}

/// A store behind its measure.
#[derive(Debug)]
pub struct Measured<T: ?Sized> {
    inner: Arc<T>,
    room: Arc<Room>,
}

impl<T: ?Sized> Measured<T> {
    fn new(inner: Arc<T>, to: &Stores, seam: &'static str, name: &'static str, methods: &[&'static str]) -> Self {
        let method = || Method { times: Histogram::new(&STORE_BOUNDS), errors: Default::default() };
        let methods = methods.iter().map(|name| (*name, method())).collect();
        let room = Arc::new(Room { seam, name, methods });
        to.0.lock().push(room.clone());
        Self { inner, room }
    }
}

impl Room {
    /// A call that answers as a whole.
    async fn whole<T>(
        &self,
        method: usize,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = call.await;
        self.took(method, began.elapsed());
        if let Err(error) = &answer {
            self.failed(method, error);
        }
        answer
    }

    /// A call that answers for each item.
    async fn each<T>(
        &self,
        method: usize,
        call: impl Future<Output = Vec<Result<T, StoreError>>>,
    ) -> Vec<Result<T, StoreError>> {
        let began = Instant::now();
        let answers = call.await;
        self.took(method, began.elapsed());
        answers.iter().filter_map(|answer| answer.as_ref().err()).for_each(|error| self.failed(method, error));
        answers
    }

    fn took(&self, method: usize, time: Duration) {
        if let Some((_, method)) = self.methods.get(method) {
            method.times.observe(time);
        }
    }

    fn failed(&self, method: usize, error: &StoreError) {
        if let Some((_, method)) = self.methods.get(method) {
            method.errors[kind(error)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What a view answers that the room behind does not have: nobody is given such a view.
    fn missing(&self) -> StoreError {
        StoreError::Unavailable { store: self.name, why: "it has no such view".to_owned() }
    }
}

impl Stores {
    /// Writes all methods that were called, every kind of error at 0 too, so that its first step is one.
    pub fn tell(&self, page: &mut Exposition) {
        let rooms = self.0.lock().clone();
        let methods =
            || rooms.iter().flat_map(|room| room.methods.iter().map(move |(name, method)| (room, name, method)));
        let called: Vec<_> = methods()
            .map(|(room, name, method)| (room, name, method, method.times.read()))
            .filter(|(_, _, method, times)| times.count() > 0 || method.has_failed())
            .collect();
        let mut samples = page.begin(&table::STORE_CALLS);
        for (room, name, _, times) in called.iter().filter(|(.., times)| times.count() > 0) {
            samples.histogram(&[room.seam, room.name, name], times);
        }
        let mut samples = page.begin(&table::STORE_ERRORS);
        for (room, name, method, _) in &called {
            for (kind, count) in KINDS.iter().zip(&method.errors) {
                samples.count(&[room.seam, room.name, name, kind], count.load(Ordering::Relaxed));
            }
        }
    }
}

impl Method {
    fn has_failed(&self) -> bool {
        self.errors.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// Names the methods of a seam: their places as constants, and their names in that order.
macro_rules! methods {
    ($($method:ident)+) => {
        // The places of methods have the names of methods.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Place { $($method),+ }

        const METHODS: &[&str] = &[$(stringify!($method)),+];
    };
}
use methods;
