//! Servers, workers and the store killed at random moments while workflows flow.

use super::plan::End;
use super::{Field, RUN_MAX, WORKERS, is_long, until};
#[cfg(feature = "redis")]
use crate::redis::Redis;
#[cfg(feature = "redis")]
use crate::replicas::{needs_redis, runtime};
use crate::witness::Random;

/// Chords, and as many chains; kills of each kind.
fn size() -> (u32, u64) {
    if is_long() { (500, 30) } else { (100, 6) }
}

/// `restart`: kills the store and starts it again, where it is a program of its own.
fn survive(what: &str, store: Option<&str>, seed: u64, mut restart: Option<&mut dyn FnMut()>) {
    let (count, kills) = size();
    let mut random = Random(seed);
    let mut field = Field::new(store, 2, &[]);
    (0..WORKERS).for_each(|_| field.hire());
    field.produce(&format!("s{seed}"), count, count);
    // Kills come by progress, so that a run has all of them however fast the machine is.
    let runs = field.expected().values().filter(|end| !matches!(end, End::Never)).count() as u64;
    let kinds = if restart.is_some() { 3 } else { 2 };
    let stretch = runs / (kinds * kills + 1);
    for blow in 0..kinds * kills {
        let goal = (blow * stretch + random.below(stretch)) as usize;
        until("progress between kills", RUN_MAX, || (field.ended() >= goal).then_some(()));
        match (blow % kinds, &mut restart) {
            (0, _) => field.kill_server(&mut random),
            (2, Some(restart)) => restart(),
            _ => field.kill_worker(&mut random),
        }
    }
    field.raise();
    // A server that has leases of two seconds may lose a worker that it does not hear on a busy machine.
    let is_strict = store.is_some();
    field.compare(&format!("{what}, seed {seed}, {kills} kills of each kind"), is_strict);
}

/// With `LINESHAFT_LONG=1` each run is made three times.
fn seeds() -> std::ops::RangeInclusive<u64> {
    if is_long() { 1..=3 } else { 1..=1 }
}

#[test]
fn chords_and_chains_survive_the_death_of_the_server_and_of_workers() {
    for seed in seeds() {
        survive("embedded", None, seed, None);
    }
}

#[cfg(feature = "redis")]
#[test]
fn chords_and_chains_on_redis_survive_the_death_of_both_servers_of_workers_and_of_redis() {
    needs_redis!();
    let runtime = runtime();
    for seed in seeds() {
        let mut redis = runtime.block_on(Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]));
        let url = redis.url();
        let mut restart = || {
            redis.kill();
            runtime.block_on(redis.restart());
        };
        survive("Redis", Some(&url), seed, Some(&mut restart));
    }
}
