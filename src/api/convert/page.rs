//! Page tokens: a position of ours as text. Opaque to callers, and never trusted when they come back.

use crate::error::Error;
use crate::service::types::ANSWER_BYTES_MAX;

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

/// Keeps the items that fit into one answer, at least one; answers whether any were cut off.
pub(in crate::api) fn cut<T: prost::Message>(items: &mut Vec<T>) -> bool {
    let mut bytes = 0;
    let fitting = items.iter().take_while(|item| {
        bytes += item.encoded_len();
        bytes <= ANSWER_BYTES_MAX
    });
    let (fitting, all) = (fitting.count().max(1), items.len());
    items.truncate(fitting);
    items.len() < all
}

/// The error of a token that is not ours.
pub(in crate::api) fn invalid() -> Error {
    Error::invalid("page_token", "is not a page token of this server; leave it unset to begin anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_by_its_bytes_and_has_at_least_one_item() {
        let worker =
            |bytes: usize| lineshaft_client::proto::WorkerInfo { worker: "w".repeat(bytes), ..Default::default() };
        let mut one = vec![worker(2 * ANSWER_BYTES_MAX)];
        assert!(!cut(&mut one));
        let mut three = vec![worker(ANSWER_BYTES_MAX / 2 - 100), worker(ANSWER_BYTES_MAX / 2 - 100), worker(1000)];
        assert!(cut(&mut three));
        assert_eq!((one.len(), three.len()), (1, 2));
    }

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
