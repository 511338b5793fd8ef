//! One attempt: from the client's words to the program's, back again, and a line about it.

use std::time::Duration;

use lineshaft_client::value::Results;
use lineshaft_client::{Context, Failure, proto};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::Outcome;
use super::program::{Attempt, Program};
use crate::cli::{output, span};

/// Runs the program for one attempt, and says how it went: on stderr for people, on stdout if `json`.
///
/// # Errors
/// As the program's end means it.
pub async fn run(program: &Program, context: Context, args: Vec<proto::Arg>, json: bool) -> Result<Results, Failure> {
    let attempt = Attempt {
        task_id: context.task_id().to_owned(),
        task_name: context.task_name().to_owned(),
        queue: context.queue().to_owned(),
        attempt: context.attempt(),
        fencing_token: context.fencing_token(),
        retries_left: context.retries_left(),
        traceparent: context.traceparent().map(str::to_owned),
        args,
    };
    let begun = Instant::now();
    let outcome = program.run(&attempt, context.cancelled()).await;
    tell(&attempt, &outcome, begun.elapsed(), json);
    match outcome {
        Outcome::Success(results) => Ok(Results(results)),
        Outcome::Later { after, error } => Err(Failure::retry_later(after, error)),
        Outcome::Failed(error) => Err(Failure::new(error)),
        Outcome::FailedForGood(error) => Err(Failure::fatal(error)),
        // The lease is gone or goes back, and whatever is said now changes nothing; or the attempt ran too long, and has failed.
        Outcome::Stopped => Err(Failure::new("the program was stopped")),
    }
}

fn tell(attempt: &Attempt, outcome: &Outcome, took: Duration, json: bool) {
    let (word, sentence, error) = match outcome {
        Outcome::Success(results) => (
            "success",
            match results.len() {
                1 => "success, 1 result".to_owned(),
                count => format!("success, {count} results"),
            },
            None,
        ),
        Outcome::Later { after, error } => {
            ("retry_later", format!("again in {}: {error}", span::human(*after)), Some(error))
        }
        Outcome::Failed(error) => ("failed", format!("failed: {error}"), Some(error)),
        Outcome::FailedForGood(error) => ("failed_for_good", format!("failed for good: {error}"), Some(error)),
        Outcome::Stopped => ("stopped", "told to stop".to_owned(), None),
    };
    if json {
        let line = output::object([
            ("task_id", attempt.task_id.clone().into()),
            ("task_name", attempt.task_name.clone().into()),
            ("attempt", attempt.attempt.into()),
            ("fencing_token", attempt.fencing_token.into()),
            ("outcome", word.into()),
            ("error", error.map_or(Value::Null, |error| error.clone().into())),
            ("took_seconds", output::seconds(took)),
        ]);
        // Work goes on if nobody reads about it.
        let _ = output::line(&line.to_string());
    } else {
        output::remark(&format!(
            "{} {} attempt {}, {}: {}",
            attempt.task_id,
            attempt.task_name,
            attempt.attempt,
            span::human(took),
            output::cell(&sentence)
        ));
    }
}
