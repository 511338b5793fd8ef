//! The trace a task belongs to: W3C Trace Context, as it rides in a task's headers.
//!
//! A context names a trace and, of its spans, the parent of whatever comes next. Ids of our own are digests of what every
//! replica knows, so that the same span has the same id wherever it is made, and nothing has to be stored for it.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{Headers, RawJson};

/// The header, and the gRPC metadata key, with the context.
pub const TRACEPARENT: &str = "traceparent";
/// The header, and the metadata key, with what tracing systems add to it. Carried unread.
pub const TRACESTATE: &str = "tracestate";
/// The longest `tracestate` that is taken from metadata, bytes: what W3C asks everyone to carry.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;
/// Bytes of a `traceparent` of version 00: two digits, 32, 16 and two, with dashes between.
const TRACEPARENT_BYTES: usize = 55;

/// A trace: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span of a trace: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// A trace, the span that caused what comes next, and whether they are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The parent of what comes next.
    pub span: SpanId,
    /// Its spans are recorded.
    pub is_sampled: bool,
}

macro_rules! id {
    ($name:ident, $bytes:literal) => {
        impl $name {
            /// The id that the digest of `parts` is.
            pub fn digest(parts: &[&[u8]]) -> Self {
                let mut hash = Sha256::new();
                for part in parts {
                    hash.update((part.len() as u64).to_be_bytes());
                    hash.update(part);
                }
                let mut id = [0; $bytes];
                id.copy_from_slice(&hash.finalize()[..$bytes]);
                // Nobody will ever see it, and zero is no id.
                if id == [0; $bytes] {
                    id[$bytes - 1] = 1;
                }
                Self(id)
            }

            /// Reads small hexadecimal digits; `None`: it is no id.
            pub fn parse(text: &str) -> Option<Self> {
                let mut id = [0; $bytes];
                if text.len() != 2 * $bytes {
                    return None;
                }
                for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
                    *byte = hex(pair)?;
                }
                (id != [0; $bytes]).then_some(Self(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

id!(TraceId, 16);
id!(SpanId, 8);

/// Two hexadecimal digits; capitals are none in this format.
fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

impl TraceContext {
    /// Reads a `traceparent`; `None`: it is malformed, and to be ignored. Of a later version than 00 what is known of it is
    /// taken, as its specification asks.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !text.is_ascii() || bytes.len() < TRACEPARENT_BYTES || [2, 35, 52].iter().any(|at| bytes[*at] != b'-') {
            return None;
        }
        match hex(&bytes[..2])? {
            0xff => return None,
            0 if bytes.len() > TRACEPARENT_BYTES => return None,
            _ if bytes.get(TRACEPARENT_BYTES).is_some_and(|next| *next != b'-') => return None,
            _ => {}
        }
        Some(Self {
            trace: TraceId::parse(&text[3..35])?,
            span: SpanId::parse(&text[36..52])?,
            is_sampled: hex(&bytes[53..55])? & SAMPLED == SAMPLED,
        })
    }

    /// The context in the headers of a task; `None`: there is none that can be read.
    pub fn of(headers: Option<&Headers>) -> Option<Self> {
        Self::parse(&headers?.get(TRACEPARENT)?.as_string()?)
    }

    /// The same trace, with another parent.
    pub fn under(self, span: SpanId) -> Self {
        Self { span, ..self }
    }

    /// Writes the context into the headers of a task. What tracing systems added stays.
    pub fn put(self, headers: &mut Headers) {
        headers.insert(TRACEPARENT.to_owned(), RawJson::string(&self.to_string()));
    }
}

impl fmt::Display for TraceContext {
    /// As a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_written_as_it_was_read() {
        let context = TraceContext::parse(TEXT).unwrap();
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), TEXT);
        let mut headers = Headers::new();
        context.put(&mut headers);
        assert_eq!(TraceContext::of(Some(&headers)), Some(context));
        assert!(!TraceContext::parse(&TEXT.replace("-01", "-00")).unwrap().is_sampled);
        assert!(TraceContext::parse(&TEXT.replace("-01", "-ff")).unwrap().is_sampled, "flags to come are passed over");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let context = TraceContext::parse(TEXT);
        assert_eq!(TraceContext::parse(&TEXT.replacen("00", "cc", 1)), context);
        assert_eq!(TraceContext::parse(&format!("{}-more", TEXT.replacen("00", "cc", 1))), context);
        assert_eq!(TraceContext::parse(&format!("{}more", TEXT.replacen("00", "cc", 1))), None);
    }

    #[test]
    fn what_is_malformed_is_none() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
        }
        let headers = Headers::from([(TRACEPARENT.to_owned(), RawJson("7".to_owned()))]);
        assert_eq!(TraceContext::of(Some(&headers)), None);
    }

    #[test]
    fn an_id_is_the_same_wherever_it_is_made_and_parts_do_not_run_together() {
        assert_eq!(SpanId::digest(&[b"a", b"b"]), SpanId::digest(&[b"a", b"b"]));
        assert_ne!(SpanId::digest(&[b"a", b"b"]), SpanId::digest(&[b"ab", b""]));
        assert_eq!(TraceId::digest(&[b"a"]).to_string().len(), 32);
    }
}
