//! The stored form of a state that is to be written: for the ledger, which keeps what follows from a decision.

use std::time::Duration;

use crate::task::record::{RecordError, StateRecord};

use super::StateWrite;

/// A [`StateWrite`] as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateWriteRecord {
    /// See [`StateWrite::state`].
    #[prost(message, optional, tag = "1")]
    pub state: Option<StateRecord>,
    /// See [`StateWrite::keep`], ns.
    #[prost(uint64, tag = "2")]
    pub keep_ns: u64,
}

impl From<&StateWrite> for StateWriteRecord {
    fn from(write: &StateWrite) -> Self {
        Self { state: Some((&write.state).into()), keep_ns: u64::try_from(write.keep.as_nanos()).unwrap_or(u64::MAX) }
    }
}

impl TryFrom<StateWriteRecord> for StateWrite {
    type Error = RecordError;

    fn try_from(record: StateWriteRecord) -> Result<Self, RecordError> {
        let state = record.state.ok_or(RecordError::Missing("the state to be written"))?;
        Ok(Self { state: state.try_into()?, keep: Duration::from_nanos(record.keep_ns) })
    }
}
