//! What a status says: its code and the details that are the contract.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A refusal as a client may rely on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// The field of `BadRequest`; empty if there is none.
    pub field: String,
}

impl Refusal {
    /// For comparison.
    pub fn new(code: Code, reason: &str, field: &str) -> Self {
        Self { code, reason: reason.to_owned(), field: field.to_owned() }
    }

    /// TASK_INVALID, and the field that is.
    pub fn invalid(field: &str) -> Self {
        Self::new(Code::InvalidArgument, "TASK_INVALID", field)
    }

    /// LIMIT_EXCEEDED, and the field that does.
    pub fn limit(field: &str) -> Self {
        Self::new(Code::InvalidArgument, "LIMIT_EXCEEDED", field)
    }
}

/// Reads a status; every one must have an `ErrorInfo` of our domain.
pub fn refusal(status: &Status) -> Refusal {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "lineshaft.v1", "{status:?}");
    let bad_request = status.get_details_bad_request().map(|b| b.field_violations).unwrap_or_default();
    let field = bad_request.first().map(|v| v.field.clone()).unwrap_or_default();
    Refusal { code: status.code(), reason: info.reason, field }
}
