//! Sizes, counts and names.

use crate::error::Error;
use crate::task::{IdError, NAME_BYTES_MAX};

/// Refuses `actual` over `limit`.
pub(in crate::api) fn at_most(field: &str, actual: usize, limit: usize, unit: &'static str) -> Result<(), Error> {
    if actual <= limit {
        return Ok(());
    }
    Err(Error::LimitExceeded { field: field.to_owned(), limit: limit as u64, actual: actual as u64, unit })
}

/// Refuses a list that is empty or longer than `limit`.
pub(in crate::api) fn count(field: &str, actual: usize, limit: usize, unit: &'static str) -> Result<(), Error> {
    if actual == 0 {
        return Err(Error::invalid(field, "must not be empty"));
    }
    at_most(field, actual, limit, unit)
}

/// What is wrong with an id or name, as an error of its field.
pub(in crate::api) fn id(field: &str) -> impl FnOnce(IdError) -> Error {
    move |error| match error {
        IdError::TooLong { bytes } => Error::LimitExceeded {
            field: field.to_owned(),
            limit: NAME_BYTES_MAX as u64,
            actual: bytes as u64,
            unit: "bytes",
        },
        other => Error::invalid(field, other),
    }
}

/// `key` of a map as it is written in a path, `["key"]`: cut, since a path is for people and travels in headers.
pub(in crate::api) fn key(key: &str) -> String {
    format!("[{:?}]", &key[..key.floor_char_boundary(60)])
}

/// The first `bytes_max` bytes of a text for people, whole characters only.
pub(in crate::api) fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// A page size: unset is 100, at most 1,000.
pub(in crate::api) fn page_size(size: u32) -> Result<usize, Error> {
    at_most("page_size", size as usize, 1000, "items")?;
    Ok(if size == 0 { 100 } else { size as usize })
}
