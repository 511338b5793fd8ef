//! What a server tells of itself. Here are the logs: one line for each event, on standard error, for people or for programs.
//! Beside them `spans`: what happened to each task, for tracing systems; and the metrics: `table` has all of them, `metrics` the page, `tasks`, `stores` and `calls` what is counted.

pub mod bounded;
pub mod calls;
pub mod exposition;
pub mod histogram;
pub mod metrics;
mod process;
pub mod spans;
pub mod stores;
pub mod table;
pub mod tasks;

use std::fmt;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Replaces the filter of the running log.
type Refilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Set by the start that took effect.
static REFILTER: OnceLock<Refilter> = OnceLock::new();

/// Starts logging for the whole process. A second call changes nothing.
///
/// # Errors
/// A sentence, if `log.level` is no filter.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = filter(&log.level)?;
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = || tracing_subscriber::fmt().with_writer(std::io::stderr);
    // An error says that a subscriber is set already.
    match log.format.settled(is_terminal) {
        LogFormat::Pretty | LogFormat::Auto => {
            let builder = builder().with_ansi(is_terminal).with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                remember(Box::new(move |filter| handle.reload(filter).map_err(told)));
            }
        }
        LogFormat::Json => {
            let builder = builder().json().flatten_event(true).with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                remember(Box::new(move |filter| handle.reload(filter).map_err(told)));
            }
        }
    }
    Ok(())
}

/// Changes what is logged from now on. Without a log that [`start`] began, nothing is.
///
/// # Errors
/// A sentence, if `level` is no filter, or the log has ended; the old filter stays.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = filter(level)?;
    REFILTER.get().map_or(Ok(()), |refilter| refilter(filter))
}

/// Whether `level` is a filter.
///
/// # Errors
/// Why not.
pub fn check(level: &str) -> Result<(), String> {
    EnvFilter::try_new(level).map(drop).map_err(told)
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|e| format!("log.level is {level:?}: {e}"))
}

fn remember(refilter: Refilter) {
    // Only one subscriber can be set, so only one start comes here.
    let _ = REFILTER.set(refilter);
}

fn told(error: impl fmt::Display) -> String {
    error.to_string()
}
