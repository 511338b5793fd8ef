//! Page tokens: a position of ours as text. Opaque to callers, and never trusted when they come back.

use crate::error::Error;

// Positions of stores are short; a longer token is not one of ours.
const BYTES_MAX: usize = 1024;

/// The token for a position: lower-case hexadecimal.
pub(in crate::api) fn token(position: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS[usize::from(n & 15)] as char;
    position.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

/// The position of a token; `None`: from the start.
pub(in crate::api) fn position(token: &str) -> Result<Option<Vec<u8>>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let nibble = |c: u8| char::from(c).to_digit(16);
    let bytes = token.as_bytes();
    let decoded: Option<Vec<u8>> = (bytes.len().is_multiple_of(2) && bytes.len() <= 2 * BYTES_MAX)
        .then(|| bytes.chunks(2).map(|c| Some((nibble(c[0])? << 4 | nibble(c[1])?) as u8)).collect())
        .flatten();
    decoded.map(Some).ok_or_else(invalid)
}

/// The error of a token that is not ours.
pub(in crate::api) fn invalid() -> Error {
    Error::invalid("page_token", "is not a page token of this server; leave it unset to begin anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_garbage_is_refused_by_name() {
        for bytes in [&b"\x00\xff\x10"[..], b"a"] {
            assert_eq!(position(&token(bytes)).unwrap().as_deref(), Some(bytes));
        }
        assert_eq!(position("").unwrap(), None);
        for bad in ["0", "zz", "+1", "é", &"00".repeat(2000)] {
            assert!(matches!(position(bad), Err(Error::Invalid { field, .. }) if field == "page_token"), "{bad:?}");
        }
    }
}
