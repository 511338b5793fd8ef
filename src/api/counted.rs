//! Counting how calls end.

use std::sync::Arc;

use http::HeaderMap;
use tonic::{Code, Status};

use crate::telemetry::calls::Method;

/// A call that has not ended. Dropped before its status was known, its client has gone: it counts as cancelled.
#[derive(Debug)]
pub(super) struct Call(Option<Arc<Method>>);

impl Call {
    /// A call of this method; `None`: nobody counts.
    pub(super) fn of(method: Option<Arc<Method>>) -> Self {
        Self(method)
    }

    /// The status is known, if it is in `headers`.
    pub(super) fn ended(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(Status::GRPC_STATUS)
            && let Some(method) = self.0.take()
        {
            method.ended(Code::from_bytes(status.as_bytes()) as usize);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(method) = self.0.take() {
            method.ended(Code::Cancelled as usize);
        }
    }
}
