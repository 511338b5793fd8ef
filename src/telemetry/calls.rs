//! gRPC calls, counted by method and status code.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bounded::OTHER;
use super::exposition::Exposition;
use super::table;

/// The status codes of gRPC, each at its number.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The calls of one method.
#[derive(Debug, Default)]
pub struct Method([AtomicU64; CODES.len()]);

impl Method {
    /// Counts a call that ended with this status code; a number that is no code counts as `UNKNOWN`.
    pub fn ended(&self, code: usize) {
        self.0.get(code).unwrap_or(&self.0[2]).fetch_add(1, Ordering::Relaxed);
    }
}

/// The calls of all methods. Which there are is said at the start, so that callers of others make no series.
#[derive(Debug, Default)]
pub struct Calls {
    methods: HashMap<String, Arc<Method>>,
    other: Arc<Method>,
}

impl Calls {
    /// For methods by their paths, as `/package.Service/Method`.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Self {
        Self { methods: paths.into_iter().map(|path| (path, Arc::default())).collect(), other: Arc::default() }
    }

    /// The method at a path.
    pub fn method(&self, path: &str) -> Arc<Method> {
        self.methods.get(path).unwrap_or(&self.other).clone()
    }

    /// Writes all of them: `OK` of each method, other codes once they were answered.
    pub fn tell(&self, page: &mut Exposition) {
        let mut methods: Vec<(&str, &Arc<Method>)> =
            self.methods.iter().map(|(path, method)| (path.trim_start_matches('/'), method)).collect();
        methods.sort_unstable_by_key(|(path, _)| *path);
        let mut samples = page.begin(&table::GRPC_CALLS);
        for (path, method) in methods.into_iter().chain([(OTHER, &self.other)]) {
            for (code, count) in CODES.iter().zip(&method.0) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 || *code == CODES[0] {
                    samples.count(&[path, code], count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code_and_unknown_methods_together() {
        let calls = Calls::new(["/a.A/X".to_owned()]);
        calls.method("/a.A/X").ended(5);
        calls.method("/a.A/Y").ended(12);
        calls.method("/a.A/Z").ended(99);
        let mut page = Exposition::default();
        calls.tell(&mut page);
        let text = page.into_text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "lineshaft_grpc_calls_total{method=\"a.A/X\",code=\"OK\"} 0",
                "lineshaft_grpc_calls_total{method=\"a.A/X\",code=\"NOT_FOUND\"} 1",
                "lineshaft_grpc_calls_total{method=\"other\",code=\"OK\"} 0",
                "lineshaft_grpc_calls_total{method=\"other\",code=\"UNKNOWN\"} 1",
                "lineshaft_grpc_calls_total{method=\"other\",code=\"UNIMPLEMENTED\"} 1",
            ]
        );
    }
}
