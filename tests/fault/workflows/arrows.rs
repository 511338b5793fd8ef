//! A crash of the real process at every arrow of sending workflows and of what follows them, on both stores, in one step and step for step.

use lineshaft::failpoint::Point;

use super::{Field, RUN_MAX};
#[cfg(feature = "redis")]
use crate::redis::Redis;
#[cfg(feature = "redis")]
use crate::replicas::{needs_redis, runtime};

/// Arrows that are visited at a time on Redis: most of each visit is waiting for what the dead process held.
#[cfg(feature = "redis")]
const LANES: usize = 4;

/// Chords, and as many chains: the arrows that only some reach are reached more than once.
const COUNT: u32 = 8;
/// The visit at which the process aborts.
const VISIT: u32 = 2;

/// Aborts at `point`; the next life goes on with what the first left, and the producer repeats what was not answered.
fn crash_at(point: Point, mode: &str, store: Option<&str>) {
    let what = format!("{}{}{}", store.map_or("embedded ", |_| "Redis "), mode, point.name());
    let plan = format!("{mode}{}=abort@{VISIT}", point.name());
    let mut field = Field::new(store, 1, &[("LINESHAFT_FAILPOINTS", plan.as_str())]);
    field.hire();
    field.produce(&point.name().replace('.', "-"), COUNT, COUNT);
    assert!(field.servers[0].ended(RUN_MAX), "{what}: never reached");
    field.servers[0].life(&[("LINESHAFT_FAILPOINTS", mode)]);
    field.compare(&what, false);
}

#[test]
fn workflows_survive_a_crash_at_every_arrow() {
    // Only programs beside the server take part in this one.
    let is_there = |point: &Point| *point != Point::JoinTriggered;
    for mode in ["", "unfused,"] {
        Point::WORKFLOW.into_iter().filter(is_there).for_each(|point| crash_at(point, mode, None));
    }
}

#[cfg(feature = "redis")]
#[test]
fn workflows_on_redis_survive_a_crash_at_every_arrow() {
    needs_redis!();
    let visits: Vec<(&str, Point)> =
        ["", "unfused,"].into_iter().flat_map(|mode| Point::WORKFLOW.map(|point| (mode, point))).collect();
    std::thread::scope(|scope| {
        for visits in visits.chunks(visits.len().div_ceil(LANES)) {
            scope.spawn(move || {
                for (mode, point) in visits {
                    let redis = runtime().block_on(Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]));
                    crash_at(*point, mode, Some(&redis.url()));
                }
            });
        }
    });
}
