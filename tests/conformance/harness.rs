//! Runs one case on one room, in time that only the case moves.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use lineshaft::clock::{TestClock, WallTime};

use crate::room::{Kind, Room};

/// 2026-01-01T00:00:00Z, when every case begins.
pub(crate) const START: WallTime = WallTime(1_767_225_600_000_000_000);

/// Real time after which a case is taken to hang. The slowest takes seconds.
const HANG: Duration = Duration::from_secs(180);

/// A case passes, or is not for this room.
pub(crate) type Outcome = Result<(), Skip>;

/// The capability that explains why a case is not for a room.
#[derive(Debug)]
pub(crate) struct Skip(String);

impl Skip {
    /// A skip for this reason.
    pub(crate) fn because(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Goes on only where a room has what the case is about.
pub(crate) fn needs(condition: bool, capability: impl fmt::Display) -> Outcome {
    if condition { Ok(()) } else { Err(Skip::because(capability)) }
}

/// A case, boxed: of one type for all of them.
pub(crate) type Case = fn(Room) -> LocalBoxFuture<'static, Outcome>;

/// Runs `case`, called `name` and of the tests in `module`, on a fresh room.
pub(crate) fn run(kind: Kind, (module, name): (&str, &str), case: Case) {
    // Without the name of this program in front.
    let name = format!("{}::{name}", module.trim_start_matches("conformance::"));
    if let Some(why) = kind.missing() {
        drop(writeln!(std::io::stderr(), "skipped {name}: {why}"));
        return;
    }
    let (done, wait) = mpsc::channel();
    let runner = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(!kind.real_time()).build();
        let outcome = runtime.expect("a runtime").block_on(async {
            // tokio moves a paused clock by itself when nothing is left to run, which is also so while a room's own
            // thread works. A blocking task under way keeps it from doing so: only the case moves time.
            let (still, rx) = mpsc::channel::<()>();
            let held = tokio::task::spawn_blocking(move || rx.recv().is_err());
            let room = kind.open(Arc::new(TestClock::new(START))).await;
            let outcome = case(room).await;
            drop(still);
            held.await.expect("the task that holds the clock");
            outcome
        });
        let _ = done.send(());
        outcome
    });
    if wait.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("{name} is not done after {HANG:?}");
    }
    match runner.join() {
        Ok(Ok(())) => {}
        // Not `eprintln`, which the test runner keeps to itself when a test passes.
        Ok(Err(Skip(why))) => drop(writeln!(std::io::stderr(), "skipped {name}: {why}")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Lists cases, functions of the module named: `once` boxes them, anything else is a room to make tests for.
///
/// They are boxed in one place, as whatever boxes a future also compiles what drops it.
macro_rules! cases {
    (@each $room:ty, $module:tt, $($case:ident)*) => {
        $(crate::harness::cases!(@one $room, $module, $case);)*
    };
    (@one $room:ty, [$($module:ident)::+], $case:ident) => {
        #[test]
        fn $case() {
            let of = (module_path!(), stringify!($case));
            crate::harness::run(crate::room::Kind::of::<$room>(), of, crate::once::$($module)::+::$case);
        }
    };
    (once, $seam:ident: $($case:ident)*) => {
        $(pub(crate) fn $case(room: crate::room::Room) -> futures::future::LocalBoxFuture<'static, crate::harness::Outcome> {
            Box::pin(crate::$seam::$case(room))
        })*
    };
    (once, $seam:ident::$file:ident: $($case:ident)*) => {
        pub(crate) mod $file {
            $(pub(crate) fn $case(room: crate::room::Room) -> futures::future::LocalBoxFuture<'static, crate::harness::Outcome> {
                Box::pin(crate::$seam::$file::$case(room))
            })*
        }
    };
    ($room:ty, $($module:ident)::+: $($case:ident)*) => {
        crate::harness::cases!(@each $room, [$($module)::+], $($case)*);
    };
}
pub(crate) use cases;

/// Lets other tasks of the runtime come to rest.
pub(crate) async fn settle_down() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}
