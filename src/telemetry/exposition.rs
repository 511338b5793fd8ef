//! Writing metrics in the text format of Prometheus, version 0.0.4.
//!
//! Written here and not by a library: `prometheus-client` writes OpenMetrics only, `prometheus` keeps a registry behind locks
//! and knows no bound on labels; the format itself is the page below.

use std::fmt::Write as _;

use super::histogram::Reading;
use super::table::{Kind, Metric};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics being written.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric; its samples follow.
    pub fn begin(&mut self, metric: &'static Metric) -> Samples<'_> {
        self.0.push_str("# HELP ");
        self.0.push_str(metric.name);
        self.0.push(' ');
        escape(&mut self.0, metric.help, false);
        self.0.push_str("\n# TYPE ");
        self.0.push_str(metric.name);
        self.0.push(' ');
        self.0.push_str(metric.kind.as_str());
        self.0.push('\n');
        Samples { text: &mut self.0, metric }
    }

    /// A metric that has no labels and one value.
    pub fn one(&mut self, metric: &'static Metric, value: f64) {
        self.begin(metric).value(&[], value);
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub struct Samples<'a> {
    text: &'a mut String,
    metric: &'static Metric,
}

impl Samples<'_> {
    /// One value; `labels` are the values of [`Metric::labels`], in order.
    pub fn value(&mut self, labels: &[&str], value: f64) {
        debug_assert_ne!(self.metric.kind, Kind::Histogram);
        self.sample("", labels, None, value);
    }

    /// One count. Beyond 2^53 its last digits are lost, as in every reader of the format.
    pub fn count(&mut self, labels: &[&str], count: u64) {
        self.value(labels, count as f64);
    }

    /// One histogram.
    pub fn histogram(&mut self, labels: &[&str], reading: &Reading) {
        debug_assert_eq!(self.metric.kind, Kind::Histogram);
        for (bound, count) in reading.cumulative() {
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
            self.sample("_bucket", labels, Some(&bound), count as f64);
        }
        self.sample("_sum", labels, None, reading.sum);
        self.sample("_count", labels, None, reading.count() as f64);
    }

    fn sample(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: f64) {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        self.text.push_str(self.metric.name);
        self.text.push_str(suffix);
        let named = self.metric.labels.iter().copied().zip(labels.iter().copied());
        for (i, (name, label)) in named.chain(bound.map(|bound| ("le", bound))).enumerate() {
            self.text.push(if i == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, label, true);
            self.text.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            self.text.push('}');
        }
        // Writing to a text cannot fail.
        let _ = writeln!(self.text, " {value}");
    }
}

/// Backslashes and line ends are escaped everywhere, quotes in labels alone. All else, in UTF-8, stands as it is.
fn escape(to: &mut String, text: &str, is_label: bool) {
    for c in text.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if is_label => to.push_str("\\\""),
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::histogram::{Histogram, STORE_BOUNDS};
    use crate::telemetry::table;

    #[test]
    fn a_metric_is_help_type_and_samples() {
        let mut page = Exposition::default();
        let mut samples = page.begin(&table::SENT);
        samples.count(&["mail"], 3);
        samples.count(&["a \"b\"\\c\nd ü"], 4);
        page.one(&table::SLOTS, 0.5);
        assert_eq!(
            page.into_text(),
            "# HELP lineshaft_tasks_sent_total Tasks sent to a queue, without callbacks and retries.\n\
             # TYPE lineshaft_tasks_sent_total counter\n\
             lineshaft_tasks_sent_total{queue=\"mail\"} 3\n\
             lineshaft_tasks_sent_total{queue=\"a \\\"b\\\"\\\\c\\nd ü\"} 4\n\
             # HELP lineshaft_worker_slots_free Leases that the attached workers have asked for and not been given.\n\
             # TYPE lineshaft_worker_slots_free gauge\n\
             lineshaft_worker_slots_free 0.5\n"
        );
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_ends_with_all() {
        let histogram = Histogram::new(&STORE_BOUNDS);
        for micros in [50, 100, 700, 60_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut page = Exposition::default();
        page.begin(&table::STORE_CALLS).histogram(&["broker", "memory", "take"], &histogram.read());
        let text = page.into_text();
        let labels = "{seam=\"broker\",store=\"memory\",method=\"take\"";
        for line in [
            format!("_bucket{labels},le=\"0.0001\"}} 2"),
            format!("_bucket{labels},le=\"0.0005\"}} 2"),
            format!("_bucket{labels},le=\"0.001\"}} 3"),
            format!("_bucket{labels},le=\"5\"}} 3"),
            format!("_bucket{labels},le=\"+Inf\"}} 4"),
            format!("_sum{labels}}} 60.00085"),
            format!("_count{labels}}} 4"),
        ] {
            assert!(text.contains(&format!("\nlineshaft_store_call_seconds{line}\n")), "{line}\n{text}");
        }
    }
}
