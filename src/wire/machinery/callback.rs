//! Callbacks: what a task becomes when another one sends it.

use super::WireError;
use super::read::decode;
use crate::task::{Arg, Body, Signature};

/// The task in `body` as it is sent after `parent` has ended in SUCCESS: with the results at the end of its arguments,
/// unless the *parent* is immutable. The task's own `Immutable` says nothing here.
///
/// Results whose type is not Machinery's are passed on as they are; the task then ends FAILURE where it is run, as it
/// does with Go workers.
///
/// # Errors
/// As [`decode`]: the body is no task.
pub fn callback_after_success(parent: &Signature, body: &Body, results: &[Arg]) -> Result<Signature, WireError> {
    let mut task = decode(&body.0)?.signature;
    if !parent.immutable && !results.is_empty() {
        let passed = results.iter().map(|result| Arg { name: String::new(), ..result.clone() });
        task.args.get_or_insert_default().extend(passed);
    }
    Ok(task)
}

/// The task in `body` as it is sent after another one has ended in FAILURE: with the error text before its arguments,
/// whatever is immutable.
///
/// # Errors
/// As [`decode`]: the body is no task.
pub fn callback_after_error(body: &Body, error: &str) -> Result<Signature, WireError> {
    let mut task = decode(&body.0)?.signature;
    task.args.get_or_insert_default().insert(0, Arg::string(error));
    Ok(task)
}

/// The task in `body` as it is sent when all members of its chord have ended: with what they came to at the end of its
/// arguments, unless it is itself immutable.
///
/// # Errors
/// As [`decode`]: the body is no task.
pub fn callback_after_chord(body: &[u8], results: impl IntoIterator<Item = Arg>) -> Result<Signature, WireError> {
    let mut task = decode(body)?.signature;
    if !task.immutable {
        let args = task.args.get_or_insert_default();
        args.extend(results.into_iter().map(|result| Arg { name: String::new(), ..result }));
    }
    Ok(task)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::task::ArgValue;

    fn body() -> Body {
        Body(Bytes::from_static(br#"{"UUID":"c","Immutable":true,"Args":[{"Type":"int64","Value":4}]}"#))
    }

    fn values(task: Signature) -> Vec<ArgValue> {
        task.args.into_iter().flatten().map(|arg| arg.value).collect()
    }

    #[test]
    fn results_go_to_the_end_unless_the_parent_is_immutable() {
        let results = [Arg::new("result", None, ArgValue::Int(15)).unwrap()];
        let open = callback_after_success(&Signature::default(), &body(), &results).unwrap();
        assert_eq!(open.args.as_ref().unwrap()[1].name, "");
        assert_eq!(values(open), [ArgValue::Int(4), ArgValue::Int(15)]);
        let parent = Signature { immutable: true, ..Signature::default() };
        assert_eq!(values(callback_after_success(&parent, &body(), &results).unwrap()), [ArgValue::Int(4)]);
    }

    #[test]
    fn arguments_that_are_null_stay_null_without_results() {
        let bare = Body(Bytes::from_static(b"{}"));
        assert_eq!(callback_after_success(&Signature::default(), &bare, &[]).unwrap().args, None);
    }

    #[test]
    fn the_error_goes_to_the_front() {
        let task = callback_after_error(&body(), "boom").unwrap();
        assert_eq!(values(task), [ArgValue::String("boom".to_owned()), ArgValue::Int(4)]);
    }

    #[test]
    fn a_body_that_is_no_task_is_an_error() {
        assert!(callback_after_error(&Body(Bytes::from_static(b"[]")), "boom").is_err());
    }
}
