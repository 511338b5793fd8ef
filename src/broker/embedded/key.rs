//! Message keys as the index keeps them, one for each message that waits.

use crate::task::MessageKey;

/// A message key in 24 bytes: almost all are uuids without dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Uuid([u8; 16]),
    Text(Box<str>),
}

impl Key {
    /// No key is lower.
    pub(super) const FIRST: Self = Self::Uuid([0; 16]);

    /// The key of this text.
    pub(super) fn pack(key: &str) -> Self {
        let is_plain = key.len() == 32 && key.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        match uuid::Uuid::try_parse(key) {
            Ok(uuid) if is_plain => Self::Uuid(uuid.into_bytes()),
            _ => Self::Text(key.into()),
        }
    }

    /// What was packed.
    pub(super) fn unpack(&self) -> MessageKey {
        match self {
            Self::Uuid(bytes) => MessageKey::trusted(uuid::Uuid::from_bytes(*bytes).simple().to_string()),
            Self::Text(text) => MessageKey::trusted(&**text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_they_were() {
        let uuid = MessageKey::generate();
        assert!(matches!(Key::pack(uuid.as_str()), Key::Uuid(_)));
        for key in [uuid.as_str(), &uuid.as_str().to_uppercase(), "x", "0123", &uuid::Uuid::nil().to_string()] {
            assert_eq!(Key::pack(key).unpack().as_str(), key);
        }
    }
}
