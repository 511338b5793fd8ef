//! The trace context of a call: the metadata `traceparent` and `tracestate`, for tasks that have none of their own.

use tonic::metadata::MetadataMap;

use crate::task::{Headers, RawJson, TRACEPARENT, TRACESTATE, TRACESTATE_BYTES_MAX, TraceContext};

/// What a caller's metadata say of its trace. What is malformed is ignored: a trace is no reason to refuse a task.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct Caller {
    context: Option<TraceContext>,
    state: Option<String>,
}

impl Caller {
    /// Reads the metadata of a call.
    pub(in crate::api) fn of(metadata: &MetadataMap) -> Self {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let state = text(TRACESTATE).filter(|state| !state.is_empty() && state.len() <= TRACESTATE_BYTES_MAX);
        Self { context: text(TRACEPARENT).and_then(TraceContext::parse), state: state.map(str::to_owned) }
    }

    /// Gives the context to a task whose headers have none that can be read.
    pub(in crate::api) fn give(&self, headers: &mut Headers) {
        let Some(context) = self.context else { return };
        if TraceContext::of(Some(headers)).is_some() {
            return;
        }
        context.put(headers);
        match &self.state {
            Some(state) => drop(headers.insert(TRACESTATE.to_owned(), RawJson::string(state))),
            None => drop(headers.remove(TRACESTATE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_CALL: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OF_TASK: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn given(metadata: &[(&'static str, &str)], before: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut map = MetadataMap::new();
        for (key, text) in metadata {
            map.insert(*key, text.parse().unwrap());
        }
        let mut headers = before.iter().map(|(k, v)| ((*k).to_owned(), RawJson::string(v))).collect();
        Caller::of(&map).give(&mut headers);
        headers.into_iter().map(|(key, json)| (key, json.as_string().unwrap())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_task_takes_the_context_of_its_call_unless_it_has_one() {
        let call = [(TRACEPARENT, OF_CALL), (TRACESTATE, "a=1")];
        assert_eq!(given(&call, &[]), pairs(&[(TRACEPARENT, OF_CALL), (TRACESTATE, "a=1")]));
        let own = [(TRACEPARENT, OF_TASK), (TRACESTATE, "b=2")];
        assert_eq!(given(&call, &own), pairs(&own));
        assert_eq!(given(&call[..1], &[(TRACESTATE, "b=2")]), pairs(&[(TRACEPARENT, OF_CALL)]), "they belong together");
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        assert_eq!(given(&[(TRACEPARENT, "00-nonsense")], &[]), pairs(&[]));
        assert_eq!(given(&[(TRACESTATE, "a=1")], &[]), pairs(&[]));
        let long = "x".repeat(TRACESTATE_BYTES_MAX + 1);
        assert_eq!(
            given(&[(TRACEPARENT, OF_CALL), (TRACESTATE, &long)], &[(TRACEPARENT, "nonsense")]),
            pairs(&[(TRACEPARENT, OF_CALL)])
        );
    }
}
