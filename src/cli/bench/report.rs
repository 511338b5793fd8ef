//! Holds what the server does against what its parts can do, and prints both.

use serde_json::Value;

use super::figures::{Latency, quantile};
use super::part::Sample;
use super::reference::Ceiling;
use super::reference::{Measured, weaknesses};
use crate::cli::{Failure, output};

/// A figure of the server, and the parts that each of its tasks must pass.
#[derive(Debug)]
pub struct Figure {
    /// For people and programs.
    pub name: String,
    /// What was measured.
    pub sample: Sample,
    /// Each part, with how much of one of its tasks a task of this figure takes: 0.01 if a hundred share a call.
    pub parts: Vec<(Ceiling, f64)>,
}

/// Everything a run has measured.
#[derive(Debug)]
pub struct Report {
    /// What the server does.
    pub figures: Vec<Figure>,
    /// How long a task takes on an idle server.
    pub latency: Latency,
    /// What the parts can do.
    pub ceilings: Vec<Measured>,
}

/// What could be reached at most, if the parts were all there is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit {
    /// Tasks per second: that of the slowest part.
    rate: f64,
    /// Tasks per CPU-second of the server: of all parts one after another.
    per_cpu: f64,
}

/// Tasks per CPU-second of the server.
fn per_server_cpu(sample: &Sample) -> f64 {
    sample.count as f64 / sample.server_cpu_seconds.unwrap_or(f64::NAN)
}

fn limit(parts: &[(Ceiling, f64)], ceilings: &[Measured]) -> Option<Limit> {
    let mut limit = Limit { rate: f64::INFINITY, per_cpu: 0.0 };
    let mut cost = 0.0;
    for (part, share) in parts {
        let measured = ceilings.iter().find(|measured| measured.ceiling == *part)?;
        limit.rate = limit.rate.min(measured.rate / share);
        cost += share / measured.per_cpu;
    }
    limit.per_cpu = 1.0 / cost;
    Some(limit)
}

impl Report {
    /// Sentences on ceilings that are too weak to hold the figures against; empty: ratios are told.
    pub fn weaknesses(&self) -> Vec<String> {
        weaknesses(&self.ceilings)
    }

    fn limits(&self) -> Vec<Option<Limit>> {
        let is_sound = self.weaknesses().is_empty();
        self.figures.iter().map(|figure| limit(&figure.parts, &self.ceilings).filter(|_| is_sound)).collect()
    }

    /// Prints two tables and the latencies, for people.
    ///
    /// # Errors
    /// As [`output::line`].
    pub fn print(&self) -> Result<(), Failure> {
        output::line("What the parts can do alone; per CPU-second of the busier process:\n")?;
        let mut table = output::table(["CEILING", "TASKS/S", "PER CPU-S", "REFERENCE", "OF IT"]);
        for measured in &self.ceilings {
            let reference = measured.ceiling.reference();
            table.add_row([
                measured.ceiling.to_string(),
                whole(measured.rate),
                whole(measured.per_cpu),
                reference.map_or("–".into(), whole),
                reference.map_or("–".into(), |reference| percent(measured.per_cpu / reference)),
            ]);
        }
        output::print_table(&table)?;
        output::line("\nWhat this server does, fsync before every answer, against all its parts together:\n")?;
        let mut table =
            output::table(["FIGURE", "TASKS/S", "CEILING", "PER SERVER CPU-S", "CEILING", "OF IT", "CLIENT CPU µS"]);
        for (figure, limit) in self.figures.iter().zip(self.limits()) {
            let (rate, per_cpu) = (figure.sample.rate(), per_server_cpu(&figure.sample));
            // No ratio of wall-clock rates: on a shared machine the disk is not the same from one second to the next.
            let shown = |value: Option<f64>| value.map_or("–".into(), whole);
            let client = figure.sample.cpu_seconds / figure.sample.count as f64 * 1e6;
            table.add_row([
                figure.name.clone(),
                whole(rate),
                shown(limit.map(|limit| limit.rate)),
                whole(per_cpu),
                shown(limit.map(|limit| limit.per_cpu)),
                limit.map_or("–".into(), |limit| percent(per_cpu / limit.per_cpu)),
                format!("{client:.1}"),
            ]);
        }
        output::print_table(&table)?;
        let times = |sorted: &[f64]| format!("{:.2} / {:.2} ms", quantile(sorted, 0.5), quantile(sorted, 0.99));
        output::line(&format!(
            "\nOn an idle server, p50 / p99 of {} tasks: to the start {}, to the result {}",
            self.latency.start_ms.len(),
            times(&self.latency.start_ms),
            times(&self.latency.result_ms),
        ))
    }

    /// The same as one JSON object.
    pub fn to_json(&self) -> Value {
        let ceilings = self.ceilings.iter().map(|measured| {
            output::object([
                ("name", measured.ceiling.to_string().into()),
                ("tasks_per_second", number(measured.rate)),
                ("tasks_per_cpu_second", number(measured.per_cpu)),
                ("reference_per_cpu_second", measured.ceiling.reference().map_or(Value::Null, number)),
            ])
        });
        let figures = self.figures.iter().zip(self.limits()).map(|(figure, limit)| {
            let per_task = |cpu: f64| number(cpu / figure.sample.count as f64);
            output::object([
                ("name", figure.name.clone().into()),
                ("tasks", figure.sample.count.into()),
                ("seconds", number(figure.sample.seconds)),
                ("tasks_per_second", number(figure.sample.rate())),
                ("ceiling_per_second", limit.map_or(Value::Null, |limit| number(limit.rate))),
                ("tasks_per_server_cpu_second", number(per_server_cpu(&figure.sample))),
                ("ceiling_per_cpu_second", limit.map_or(Value::Null, |limit| number(limit.per_cpu))),
                ("server_cpu_seconds_per_task", per_task(figure.sample.server_cpu_seconds.unwrap_or(f64::NAN))),
                ("client_cpu_seconds_per_task", per_task(figure.sample.cpu_seconds)),
            ])
        });
        let times = |sorted: &[f64], part| number(quantile(sorted, part) / 1e3);
        output::object([
            ("ceilings", ceilings.collect()),
            ("figures", figures.collect()),
            ("latency_tasks", self.latency.start_ms.len().into()),
            ("start_p50_seconds", times(&self.latency.start_ms, 0.5)),
            ("start_p99_seconds", times(&self.latency.start_ms, 0.99)),
            ("result_p50_seconds", times(&self.latency.result_ms, 0.5)),
            ("result_p99_seconds", times(&self.latency.result_ms, 0.99)),
            ("weak_ceilings", self.weaknesses().into()),
        ])
    }
}

/// JSON has no NaN and no infinity: they become null.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

/// A whole number with spaces between its thousands.
fn whole(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(stream_per_cpu: f64) -> Report {
        let sample = |server| Sample { count: 1_000, seconds: 2.0, cpu_seconds: 0.5, server_cpu_seconds: Some(server) };
        Report {
            figures: vec![Figure {
                name: "drain".into(),
                sample: sample(0.1),
                parts: vec![(Ceiling::Stream(256), 1.0), (Ceiling::Drain(64), 0.5)],
            }],
            latency: Latency { start_ms: vec![1.0, 2.0], result_ms: vec![] },
            ceilings: vec![
                Measured { ceiling: Ceiling::Stream(256), rate: 5_000.0, per_cpu: stream_per_cpu },
                Measured { ceiling: Ceiling::Drain(64), rate: 1_000.0, per_cpu: 10_000.0 },
            ],
        }
    }

    #[test]
    fn the_slowest_part_bounds_the_rate_and_all_of_them_the_cost() {
        let limit = report(2e6).limits()[0].unwrap();
        assert_eq!(limit.rate, 2_000.0);
        assert!((limit.per_cpu - 1.0 / (1.0 / 2e6 + 0.5 / 1e4)).abs() < 1e-6);
    }

    #[test]
    fn no_ratio_is_told_against_a_weak_ceiling() {
        let weak = report(1_000.0);
        assert_eq!(weak.weaknesses().len(), 1);
        assert_eq!(weak.limits(), [None]);
        let json = weak.to_json();
        assert_eq!(json["figures"][0]["ceiling_per_second"], Value::Null);
        assert_eq!(json["figures"][0]["tasks_per_second"], 500.0);
        assert!(json["weak_ceilings"][0].as_str().unwrap().contains("1000 tasks per CPU-second"));
        assert_eq!(report(2e6).to_json()["weak_ceilings"], Value::Array(vec![]));
    }

    #[test]
    fn the_object_is_as_its_schema_says() {
        let schema = serde_json::from_str(include_str!("../../docs/schemas/bench.json")).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        for measured in [report(2e6), report(1_000.0)] {
            let object = measured.to_json();
            let wrong: Vec<String> = schema.iter_errors(&object).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{object}: {wrong:?}");
        }
    }

    #[test]
    fn a_part_that_was_not_measured_bounds_nothing() {
        assert_eq!(limit(&[(Ceiling::Unary(7), 1.0)], &[]), None);
    }

    #[test]
    fn numbers_are_told_in_thousands() {
        for (value, text) in [(7.4, "7"), (999.6, "1 000"), (1_234_567.0, "1 234 567"), (f64::NAN, "–")] {
            assert_eq!(whole(value), text);
        }
        assert_eq!(number(f64::INFINITY), Value::Null);
    }
}
