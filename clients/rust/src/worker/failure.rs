//! How a function says that its attempt failed.

use std::fmt;
use std::time::Duration;

/// A failed attempt: what a person should read, and what comes next.
///
/// Any error that can be displayed becomes one by `?`: the task's retries decide what comes next. Not an error type
/// itself (it does not implement `Display`), which is what makes that conversion possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) message: String,
    pub(crate) next: Next,
}

/// What comes after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// As the task's retries say.
    Retries,
    /// Nothing: the task has failed.
    Nothing,
    /// Another attempt after this long, at no cost of a retry.
    Later(Duration),
}

impl Failure {
    /// A failure after which the task's retries decide.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), next: Next::Retries }
    }

    /// A failure that ends the task, whatever retries are left.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), next: Next::Nothing }
    }

    /// Not now: another attempt after `delay`, at no cost of a retry.
    pub fn retry_later(delay: Duration, message: impl Into<String>) -> Self {
        Self { message: message.into(), next: Next::Later(delay) }
    }

    /// What a person should read.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the task ends in FAILURE by this, if `retries_left` are left.
    pub fn is_last(&self, retries_left: u32) -> bool {
        match self.next {
            Next::Nothing => true,
            Next::Retries => retries_left == 0,
            Next::Later(_) => false,
        }
    }
}

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        // The alternate form shows the causes, where the error type has one.
        Self::new(format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_displayable_error_becomes_a_failure() {
        fn fails() -> Result<(), Failure> {
            let _number: i64 = "x".parse()?;
            Ok(())
        }
        assert_eq!(fails(), Err(Failure::new("invalid digit found in string")));
        assert_eq!(Failure::from("plain"), Failure::new("plain"));
    }

    #[test]
    fn what_is_last_depends_on_retries_and_kind() {
        assert!(Failure::new("a").is_last(0));
        assert!(!Failure::new("a").is_last(1));
        assert!(Failure::fatal("a").is_last(9));
        assert!(!Failure::retry_later(Duration::ZERO, "a").is_last(0));
    }
}
