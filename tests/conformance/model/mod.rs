//! Random operations on a room and on its model in memory: all answers must agree.
//!
//! A failure names its seed and step; `LINESHAFT_SEED=<seed>` runs that one alone.

pub(crate) mod backend;
pub(crate) mod broker;
pub(crate) mod fused;
pub(crate) mod joins;
pub(crate) mod ledger;

use std::fmt::Debug;

/// Seeds of a run. Few, as every run of the tests takes them; more are tried by setting `LINESHAFT_SEED`.
const SEEDS: std::ops::Range<u64> = 1..7;

/// Operations under one seed.
const STEPS: usize = 150;

/// The cases of a room that has this seam.
macro_rules! cases {
    ($room:ty, $($seam:ident)*) => {
        mod model {
            $(mod $seam {
                crate::harness::cases!($room, model::$seam: answers_as_the_model_does);
            })*
        }
    };
}
pub(crate) use cases;

/// The seeds to run.
fn seeds() -> Vec<u64> {
    match std::env::var("LINESHAFT_SEED") {
        Ok(seed) => vec![seed.parse().expect("LINESHAFT_SEED is a number")],
        Err(_) => SEEDS.collect(),
    }
}

/// SplitMix64: small, and the same on every machine and in every version.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True in one of `n` cases.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One to `max` things.
    fn some<T>(&mut self, max: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..=self.below(max)).map(|_| make(self)).collect()
    }
}

/// Where a comparison stands, for the message of a failure.
#[derive(Debug, Clone, Copy)]
struct Step {
    seed: u64,
    number: usize,
}

impl Step {
    /// The answers of both must agree.
    #[track_caller]
    fn agree<T: PartialEq + Debug>(self, what: impl Debug, model: T, room: T) {
        assert!(
            model == room,
            "seed {}, step {}: {what:?}\n  model: {model:?}\n  room:  {room:?}",
            self.seed,
            self.number
        );
    }
}
