//! What a task of the demo was expected to become, and what it became.

use lineshaft_client::proto::{TaskState, TaskStatus};
use serde_json::Value;

use crate::cli::{output, state, value};

/// A task that was sent, with what is expected of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// As in the account: `flaky`.
    pub label: &'static str,
    /// What it is there to show.
    pub shows: &'static str,
    /// The id.
    pub task_id: String,
    /// When it was sent, seconds of the account.
    pub sent_at: f64,
    /// SUCCESS or FAILURE.
    pub status: TaskStatus,
    /// The results, as JSON; of a FAILURE, words of the error.
    pub outcome: Vec<Value>,
    /// How often it is run: the least and the most.
    pub runs: (usize, usize),
    /// It must not be begun earlier than this after it was sent, seconds.
    pub not_before: f64,
}

/// How a task went, as watched.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The last state.
    pub state: TaskState,
    /// When it was first seen in another state than PENDING, seconds of the account.
    pub begun_at: Option<f64>,
    /// When its final state was seen, seconds of the account.
    pub ended_at: Option<f64>,
}

impl Case {
    /// What did not come as expected; empty if all did. `runs`: how often workers said that they run it.
    pub fn complaints(&self, watched: &Watched, runs: usize) -> Vec<String> {
        let mut complaints = Vec::new();
        let state = &watched.state;
        if state.status() != self.status {
            complaints.push(format!("expected {}, is {}", self.status.as_str_name(), state.status().as_str_name()));
        }
        match self.status {
            TaskStatus::Success => {
                let results: Vec<Value> = state.results.iter().map(value::to_json).collect();
                if results != self.outcome {
                    complaints.push(format!("expected results {:?}, has {results:?}", self.outcome));
                }
            }
            _ => {
                for words in self.outcome.iter().filter_map(Value::as_str) {
                    if !state.error.contains(words) {
                        complaints.push(format!("expected an error with {words:?}, has {:?}", state.error));
                    }
                }
            }
        }
        let (least, most) = self.runs;
        if !(least..=most).contains(&runs) {
            complaints.push(format!("expected {least} to {most} runs, had {runs}"));
        }
        if let Some(begun) = watched.begun_at
            && begun - self.sent_at < self.not_before
        {
            complaints.push(format!(
                "expected to wait {} s, began after {:.2} s",
                self.not_before,
                begun - self.sent_at
            ));
        }
        complaints
    }

    /// The row of the table at the end of a scene.
    pub fn row(&self, watched: &Watched, runs: usize, is_good: bool) -> [String; 7] {
        [
            self.label.into(),
            self.shows.into(),
            state::status(&watched.state).into(),
            runs.to_string(),
            watched.ended_at.map_or("–".into(), |at| format!("{:.2} s", at - self.sent_at)),
            output::cell(&state::outcome(&watched.state)),
            if is_good { "as expected" } else { "NOT AS EXPECTED" }.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn case() -> Case {
        Case {
            label: "add",
            shows: "",
            task_id: "task_1".into(),
            sent_at: 1.0,
            status: TaskStatus::Success,
            outcome: vec![json!(3)],
            runs: (1, 1),
            not_before: 2.0,
        }
    }

    fn watched(text: &str) -> Watched {
        let results = vec![value::parse(text).unwrap()];
        let state = TaskState { status: TaskStatus::Success.into(), results, ..TaskState::default() };
        Watched { state, begun_at: Some(3.5), ended_at: Some(4.0) }
    }

    #[test]
    fn a_task_that_went_as_expected_has_no_complaints() {
        assert_eq!(case().complaints(&watched("3"), 1), [] as [String; 0]);
    }

    #[test]
    fn every_departure_is_a_complaint() {
        assert_eq!(case().complaints(&watched("4"), 1).len(), 1);
        assert_eq!(case().complaints(&watched("3"), 2).len(), 1);
        assert_eq!(case().complaints(&Watched { begun_at: Some(1.5), ..watched("3") }, 1).len(), 1);
        assert_eq!(case().complaints(&Watched::default(), 0).len(), 3);
    }
}
