//! Names of things: tasks, queues, sessions, messages, leases.

use std::fmt;
use std::sync::Arc;

/// The longest id or name of a task or queue, in bytes. Memcached keys and AMQP short strings end at 250 and 255; the
/// difference is room for our own suffixes.
pub const NAME_BYTES_MAX: usize = 200;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No bytes at all.
    #[error("must not be empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("is {bytes} bytes long, the limit is {NAME_BYTES_MAX} bytes")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// A space or control character where none may be.
    #[error("must not contain {0:?}")]
    Character(char),
}

fn check(text: &str, spaces: bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(IdError::TooLong { bytes: text.len() });
    }
    match text.chars().find(|c| c.is_control() || (!spaces && c.is_whitespace())) {
        Some(c) => Err(IdError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, spaces: $spaces:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the limits of API and brokers.
            ///
            /// # Errors
            /// Empty, over [`NAME_BYTES_MAX`] bytes, or a character that is not allowed.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text, $spaces)?;
                Ok(Self(text.into()))
            }

            /// Takes `text` as it is: for what was read from a store or from a foreign program's message.
            pub fn trusted(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The id of a task, and the key of its state: 1 to 200 bytes, no spaces, no control characters. Sent twice, it names
    /// two messages; nothing about a lease is ever decided by it alone.
    TaskId, spaces: false
}
name! {
    /// The name under which workers registered a function: 1 to 200 bytes, no control characters.
    TaskName, spaces: true
}
name! {
    /// The name of a queue: 1 to 200 bytes, no spaces, no control characters.
    QueueName, spaces: false
}
name! {
    /// The id of a group, a chord or a chain, and the key of its record at the backend: 1 to 200 bytes, no spaces, no control
    /// characters.
    GroupId, spaces: false
}
name! {
    /// One worker process, from its first `Hello` to its end.
    SessionId, spaces: false
}
name! {
    /// One message: one sending of a task. A retry is another message of the same task. Leases, fences and decisions
    /// belong to messages. Made by us for what we send; for foreign messages derived from what the broker knows.
    MessageKey, spaces: false
}

impl TaskId {
    /// A new id of Machinery's form, `task_<uuid>`. Ids grow with time, so that stores append rather than scatter (ADR 8).
    pub fn generate() -> Self {
        Self(format!("task_{}", uuid::Uuid::now_v7()).into())
    }
}

impl SessionId {
    /// A new id. Sessions sort by the time they began.
    pub fn generate() -> Self {
        Self(format!("session_{}", uuid::Uuid::now_v7()).into())
    }
}

impl MessageKey {
    /// A new key. Keys sort by the time they were made, so stores append rather than scatter.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string().into())
    }

    /// The key of the `position`th message that the end of this one causes (retry, callbacks): the same each time it is
    /// computed, so that repeating an effect names the same message.
    pub fn derive(&self, position: u32) -> Self {
        Self(self.derived_uuid(position).simple().to_string().into())
    }

    /// The uuid behind [`MessageKey::derive`], also the id of a callback whose producer left it empty.
    pub fn derived_uuid(&self, position: u32) -> uuid::Uuid {
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("{}/{position}", self.0).as_bytes())
    }
}

/// Grows with every lease of a message; a result under an older one is refused.
///
/// Microseconds since 1970 at the least, so that it still grows after a store lost its last writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The exclusive right to one attempt: a message and the token under which it was granted.
///
/// Its text is `<token in hex>-<message key>`, so that any replica can find the record without an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// The message.
    pub message: MessageKey,
    /// The token.
    pub token: FencingToken,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.token.0, self.message)
    }
}

impl std::str::FromStr for LeaseId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (token, message) = text.split_once('-').ok_or(IdError::Empty)?;
        if token.is_empty() {
            return Err(IdError::Empty);
        }
        let token = u64::from_str_radix(token, 16)
            .map_err(|_| IdError::Character(token.chars().find(|c| !c.is_ascii_hexdigit()).unwrap_or('-')))?;
        Ok(Self { message: MessageKey::new(message)?, token: FencingToken(token) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_200_bytes_without_spaces_and_control_characters() {
        assert_eq!(TaskId::new(""), Err(IdError::Empty));
        assert!(TaskId::new(&"x".repeat(200)).is_ok());
        assert_eq!(TaskId::new(&"x".repeat(201)), Err(IdError::TooLong { bytes: 201 }));
        assert_eq!(TaskId::new("a b"), Err(IdError::Character(' ')));
        assert_eq!(TaskName::new("a\u{7}"), Err(IdError::Character('\u{7}')));
        assert!(TaskName::new("send mail").is_ok());
    }

    #[test]
    fn a_lease_id_reads_back_and_garbage_does_not() {
        let id = LeaseId { message: MessageKey::generate(), token: FencingToken(1_790_000_000_000_000) };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "-", "xyz-a", "12", "-a", "1ffffffffffffffffff-a"] {
            assert!(bad.parse::<LeaseId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn derived_keys_are_the_same_each_time_and_differ_by_position() {
        let key = MessageKey::trusted("0192");
        assert_eq!(key.derive(0), key.derive(0));
        assert_ne!(key.derive(0), key.derive(1));
    }
}
