//! Waiting for a condition, with a deadline.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that any condition is waited for: far beyond what a healthy server needs on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; `what` names it if there is none by [`DEADLINE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The answer of something that must come by itself.
pub async fn soon<T>(what: &str, answer: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}
