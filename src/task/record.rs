//! The stored form of arguments and states: protobuf messages, so that fields can be added and old records still read.
//!
//! Used by the rooms whose format is ours alone; what Machinery programs read is `wire`'s business. If you change a
//! message: numbers stay, removed ones are not used again, and a field that is missing must mean what it meant before.

use bytes::Bytes;

use super::{Arg, ArgValue, FailureReason, Kind, Label, Status, TaskId, TaskState, Timestamp, TypeName};

/// Why a stored record is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not a message of this kind.
    #[error("{0}")]
    Encoding(#[from] prost::DecodeError),
    /// A number that names nothing.
    #[error("{what} {number} is unknown")]
    Unknown {
        /// What it should name.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// A part that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// A [`TaskState`] as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateRecord {
    /// See [`TaskState::task_id`].
    #[prost(string, tag = "1")]
    pub task_id: String,
    /// See [`TaskState::task_name`].
    #[prost(string, tag = "2")]
    pub task_name: String,
    /// Position of the status in [`STATUSES`], from 1.
    #[prost(uint32, tag = "3")]
    pub status: u32,
    /// The results, if there are any.
    #[prost(message, optional, tag = "4")]
    pub results: Option<ArgsRecord>,
    /// See [`TaskState::error`].
    #[prost(string, tag = "5")]
    pub error: String,
    /// Position of the reason in [`REASONS`].
    #[prost(uint32, tag = "6")]
    pub reason: u32,
    /// See [`TaskState::generation`].
    #[prost(fixed64, tag = "7")]
    pub generation: u64,
    /// See [`TaskState::attempt`].
    #[prost(uint32, tag = "8")]
    pub attempt: u32,
    /// See [`TaskState::created_at`]; unset: zero.
    #[prost(message, optional, tag = "9")]
    pub created_at: Option<TimestampRecord>,
    /// See [`TaskState::updated_at`]; unset: zero.
    #[prost(message, optional, tag = "10")]
    pub updated_at: Option<TimestampRecord>,
    /// Absent in records of the first days: 0.
    #[prost(uint32, tag = "11")]
    pub releases: u32,
}

/// A [`Timestamp`] as stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct TimestampRecord {
    /// See [`Timestamp::seconds`].
    #[prost(sint64, tag = "1")]
    pub seconds: i64,
    /// See [`Timestamp::nanos`].
    #[prost(uint32, tag = "2")]
    pub nanos: u32,
    /// See [`Timestamp::offset_minutes`].
    #[prost(sint32, tag = "3")]
    pub offset_minutes: i32,
}

/// A list of arguments or results as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ArgsRecord {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<ArgRecord>,
}

/// An [`Arg`] as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ArgRecord {
    /// See [`Arg::name`].
    #[prost(string, tag = "1")]
    pub name: String,
    /// Position of the element type in [`KINDS`], from 1; 0: another type, named in `other`.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// See [`Label::list`].
    #[prost(bool, tag = "3")]
    pub list: bool,
    /// See [`Label::byte_alias`].
    #[prost(bool, tag = "4")]
    pub byte_alias: bool,
    /// The text of [`TypeName::Other`].
    #[prost(string, tag = "5")]
    pub other: String,
    /// The value.
    #[prost(oneof = "ValueRecord", tags = "6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18")]
    pub value: Option<ValueRecord>,
}

/// An [`ArgValue`] as stored.
#[allow(missing_docs, reason = "one for each variant of ArgValue")]
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ValueRecord {
    #[prost(bool, tag = "6")]
    Bool(bool),
    #[prost(sint64, tag = "7")]
    Int(i64),
    #[prost(uint64, tag = "8")]
    Uint(u64),
    #[prost(double, tag = "9")]
    Float(f64),
    #[prost(string, tag = "10")]
    String(String),
    #[prost(bytes = "bytes", tag = "11")]
    Bytes(Bytes),
    #[prost(message, tag = "12")]
    Bools(BoolsRecord),
    #[prost(message, tag = "13")]
    Ints(IntsRecord),
    #[prost(message, tag = "14")]
    Uints(UintsRecord),
    #[prost(message, tag = "15")]
    Floats(FloatsRecord),
    #[prost(message, tag = "16")]
    Strings(StringsRecord),
    #[prost(bool, tag = "17")]
    Nil(bool),
    #[prost(string, tag = "18")]
    Json(String),
}

macro_rules! list {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $type:ty) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name {
            /// In order.
            #[prost($kind, repeated, tag = "1")]
            pub items: Vec<$type>,
        }
    };
}

list! {
    /// A list of `bool`.
    BoolsRecord, bool, bool
}
list! {
    /// A list of `int*`.
    IntsRecord, sint64, i64
}
list! {
    /// A list of `uint*`.
    UintsRecord, uint64, u64
}
list! {
    /// A list of `float*`.
    FloatsRecord, double, f64
}
list! {
    /// A list of `string`.
    StringsRecord, string, String
}

/// Element types by their stored number, from 1. Only ever appended to.
pub const KINDS: [Kind; 14] = [
    Kind::Bool,
    Kind::Int,
    Kind::Int8,
    Kind::Int16,
    Kind::Int32,
    Kind::Int64,
    Kind::Uint,
    Kind::Uint8,
    Kind::Uint16,
    Kind::Uint32,
    Kind::Uint64,
    Kind::Float32,
    Kind::Float64,
    Kind::String,
];

/// Statuses by their stored number, from 1. Only ever appended to.
pub const STATUSES: [Status; 6] =
    [Status::Pending, Status::Received, Status::Started, Status::Retry, Status::Success, Status::Failure];

/// Reasons by their stored number, from 0. Only ever appended to.
pub const REASONS: [FailureReason; 10] = [
    FailureReason::Unknown,
    FailureReason::Failed,
    FailureReason::WorkerLost,
    FailureReason::ResultTooLarge,
    FailureReason::Poison,
    FailureReason::Cancelled,
    FailureReason::Purged,
    FailureReason::Expired,
    FailureReason::TimedOut,
    FailureReason::NotRun,
];

fn number<T: PartialEq>(of: &T, all: &[T]) -> u32 {
    all.iter().position(|one| one == of).map_or(0, |at| at as u32)
}

fn named<T: Copy>(what: &'static str, number: u32, from: u32, all: &[T]) -> Result<T, RecordError> {
    let at = number.checked_sub(from).and_then(|at| all.get(at as usize));
    at.copied().ok_or(RecordError::Unknown { what, number })
}

impl From<Timestamp> for TimestampRecord {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanos: time.nanos, offset_minutes: time.offset_minutes.into() }
    }
}

impl From<TimestampRecord> for Timestamp {
    fn from(record: TimestampRecord) -> Self {
        Self {
            seconds: record.seconds,
            nanos: record.nanos.min(999_999_999),
            offset_minutes: i16::try_from(record.offset_minutes).unwrap_or(0),
        }
    }
}

fn stored_time(time: Timestamp) -> Option<TimestampRecord> {
    (time != Timestamp::ZERO).then(|| time.into())
}

impl From<&TaskState> for StateRecord {
    fn from(state: &TaskState) -> Self {
        Self {
            task_id: state.task_id.as_str().to_owned(),
            task_name: state.task_name.clone(),
            status: number(&state.status, &STATUSES) + 1,
            results: state.results.as_deref().map(Into::into),
            error: state.error.clone(),
            reason: number(&state.reason, &REASONS),
            generation: state.generation,
            attempt: state.attempt,
            releases: state.releases,
            created_at: stored_time(state.created_at),
            updated_at: stored_time(state.updated_at),
        }
    }
}

impl TryFrom<StateRecord> for TaskState {
    type Error = RecordError;

    fn try_from(record: StateRecord) -> Result<Self, RecordError> {
        Ok(Self {
            task_id: TaskId::trusted(record.task_id),
            task_name: record.task_name,
            status: named("status", record.status, 1, &STATUSES)?,
            results: record.results.map(TryInto::try_into).transpose()?,
            error: record.error,
            reason: named("reason", record.reason, 0, &REASONS)?,
            generation: record.generation,
            attempt: record.attempt,
            releases: record.releases,
            created_at: record.created_at.map_or(Timestamp::ZERO, Into::into),
            updated_at: record.updated_at.map_or(Timestamp::ZERO, Into::into),
        })
    }
}

impl From<&[Arg]> for ArgsRecord {
    fn from(args: &[Arg]) -> Self {
        Self { items: args.iter().map(Into::into).collect() }
    }
}

impl TryFrom<ArgsRecord> for Vec<Arg> {
    type Error = RecordError;

    fn try_from(record: ArgsRecord) -> Result<Self, RecordError> {
        record.items.into_iter().map(TryInto::try_into).collect()
    }
}

impl From<&Arg> for ArgRecord {
    fn from(arg: &Arg) -> Self {
        let (kind, list, byte_alias, other) = match &arg.type_name {
            TypeName::Known(label) => (number(&label.kind, &KINDS) + 1, label.list, label.byte_alias, String::new()),
            TypeName::Other(text) => (0, false, false, text.clone()),
        };
        let value = match &arg.value {
            ArgValue::Bool(value) => ValueRecord::Bool(*value),
            ArgValue::Int(value) => ValueRecord::Int(*value),
            ArgValue::Uint(value) => ValueRecord::Uint(*value),
            ArgValue::Float(value) => ValueRecord::Float(*value),
            ArgValue::String(value) => ValueRecord::String(value.clone()),
            ArgValue::Bytes(value) => ValueRecord::Bytes(value.clone()),
            ArgValue::Bools(items) => ValueRecord::Bools(BoolsRecord { items: items.clone() }),
            ArgValue::Ints(items) => ValueRecord::Ints(IntsRecord { items: items.clone() }),
            ArgValue::Uints(items) => ValueRecord::Uints(UintsRecord { items: items.clone() }),
            ArgValue::Floats(items) => ValueRecord::Floats(FloatsRecord { items: items.clone() }),
            ArgValue::Strings(items) => ValueRecord::Strings(StringsRecord { items: items.clone() }),
            ArgValue::Nil => ValueRecord::Nil(true),
            ArgValue::Json(text) => ValueRecord::Json(text.clone()),
        };
        Self { name: arg.name.clone(), kind, list, byte_alias, other, value: Some(value) }
    }
}

impl TryFrom<ArgRecord> for Arg {
    type Error = RecordError;

    fn try_from(record: ArgRecord) -> Result<Self, RecordError> {
        let type_name = match record.kind {
            0 => TypeName::Other(record.other),
            kind => TypeName::Known(Label {
                kind: named("argument type", kind, 1, &KINDS)?,
                list: record.list,
                byte_alias: record.byte_alias,
            }),
        };
        let value = match record.value.ok_or(RecordError::Missing("the value of an argument"))? {
            ValueRecord::Bool(value) => ArgValue::Bool(value),
            ValueRecord::Int(value) => ArgValue::Int(value),
            ValueRecord::Uint(value) => ArgValue::Uint(value),
            ValueRecord::Float(value) => ArgValue::Float(value),
            ValueRecord::String(value) => ArgValue::String(value),
            ValueRecord::Bytes(value) => ArgValue::Bytes(value),
            ValueRecord::Bools(list) => ArgValue::Bools(list.items),
            ValueRecord::Ints(list) => ArgValue::Ints(list.items),
            ValueRecord::Uints(list) => ArgValue::Uints(list.items),
            ValueRecord::Floats(list) => ArgValue::Floats(list.items),
            ValueRecord::Strings(list) => ArgValue::Strings(list.items),
            ValueRecord::Nil(_) => ArgValue::Nil,
            ValueRecord::Json(text) => ArgValue::Json(text),
        };
        Ok(Self { name: record.name, type_name, value })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_state_reads_back_as_it_was_with_every_kind_of_value() {
        let values = [
            ArgValue::Bool(false),
            ArgValue::Int(i64::MIN),
            ArgValue::Uint(u64::MAX),
            ArgValue::Float(-0.1),
            ArgValue::String(String::new()),
            ArgValue::Bytes(Bytes::from_static(&[0, 255])),
            ArgValue::Bools(vec![true, false]),
            ArgValue::Ints(vec![i64::MIN, 0, i64::MAX]),
            ArgValue::Uints(vec![]),
            ArgValue::Floats(vec![f64::MAX]),
            ArgValue::Strings(vec!["ü".into(), String::new()]),
            ArgValue::Nil,
            ArgValue::Json("{\"a\":1}".into()),
        ];
        let types = KINDS
            .map(|kind| TypeName::Known(Label { kind, list: kind == Kind::Uint8, byte_alias: kind == Kind::Uint8 }))
            .into_iter()
            .chain([TypeName::Other("map".into())]);
        let results = values.iter().cycle().zip(types).map(|(value, type_name)| Arg {
            name: "n".into(),
            type_name,
            value: value.clone(),
        });
        for (status, reason) in STATUSES.into_iter().zip(REASONS.into_iter().cycle()) {
            let state = TaskState {
                task_id: TaskId::trusted("t"),
                task_name: "add".into(),
                status,
                results: Some(results.clone().collect()),
                error: "e".into(),
                reason,
                generation: u64::MAX,
                attempt: 3,
                releases: 0,
                created_at: Timestamp { seconds: -1, nanos: 5, offset_minutes: -90 },
                updated_at: Timestamp::ZERO,
            };
            let bytes = StateRecord::from(&state).encode_to_vec();
            let read: TaskState = StateRecord::decode(bytes.as_slice()).unwrap().try_into().unwrap();
            assert_eq!(read, state);
        }
    }

    #[test]
    fn no_results_and_an_empty_list_of_them_are_told_apart() {
        let mut record = StateRecord { status: 1, ..StateRecord::default() };
        assert_eq!(TaskState::try_from(record.clone()).unwrap().results, None);
        record.results = Some(ArgsRecord::default());
        let bytes = record.encode_to_vec();
        let read = TaskState::try_from(StateRecord::decode(bytes.as_slice()).unwrap()).unwrap();
        assert_eq!(read.results, Some(vec![]));
    }

    #[test]
    fn unknown_numbers_are_errors() {
        assert!(TaskState::try_from(StateRecord::default()).is_err());
        assert!(TaskState::try_from(StateRecord { status: 7, ..StateRecord::default() }).is_err());
        assert!(
            Arg::try_from(ArgRecord { kind: 99, value: Some(ValueRecord::Nil(true)), ..ArgRecord::default() }).is_err()
        );
    }
}
