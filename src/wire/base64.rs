//! Standard base64 with padding, as Go writes and reads `[]byte`.
//!
//! Reading reports the position that Go reports, since that text ends up in task states which Go clients compare; this is
//! why no crate is used.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const NO_DIGIT: u8 = 0xff;

const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut i = 0;
    while i < 64 {
        digits[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    digits
};

/// Appends `bytes` to `out`.
pub(super) fn write(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let digit = |bits: u32| ALPHABET[(bits & 63) as usize];
    let (triples, rest) = bytes.as_chunks::<3>();
    for &[a, b, c] in triples {
        let bits = u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c);
        out.extend_from_slice(&[digit(bits >> 18), digit(bits >> 12), digit(bits >> 6), digit(bits)]);
    }
    match *rest {
        [a] => {
            let bits = u32::from(a) << 16;
            out.extend_from_slice(&[digit(bits >> 18), digit(bits >> 12), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from(a) << 16 | u32::from(b) << 8;
            out.extend_from_slice(&[digit(bits >> 18), digit(bits >> 12), digit(bits >> 6), b'=']);
        }
        _ => {}
    }
}

/// The bytes that `text` stands for. Line ends are skipped, and the unused bits of the last digit are not looked at.
///
/// # Errors
/// The position at which Go would give up.
pub(super) fn read(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    // Whole groups of four digits; the first oddity is left to the careful loop.
    while let Some(&[a, b, c, d]) = text.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let [a, b, c, d] = [a, b, c, d].map(|digit| DIGITS[usize::from(digit)]);
        // Digits are below 64, so only the mark of no digit can set the upper bits.
        if a | b | c | d == NO_DIGIT {
            break;
        }
        let bits = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
        at += 4;
    }
    let mut group = [0u32; 4];
    let mut filled = 0;
    while at < text.len() {
        let byte = text[at];
        at += 1;
        match DIGITS[usize::from(byte)] {
            NO_DIGIT if byte == b'\n' || byte == b'\r' => {}
            NO_DIGIT if byte == b'=' => return end(text, at, out, group, filled),
            NO_DIGIT => return Err(at - 1),
            digit => {
                group[filled] = u32::from(digit);
                filled += 1;
                if filled == 4 {
                    push(&mut out, group, 3);
                    filled = 0;
                }
            }
        }
    }
    // The digits of the last group lack their padding. Where line ends stand among them, Go counts from the end too.
    if filled == 0 { Ok(out) } else { Err(text.len() - filled) }
}

// After the first `=`, which ends at `at`, with `filled` digits before it.
fn end(text: &[u8], mut at: usize, mut out: Vec<u8>, group: [u32; 4], filled: usize) -> Result<Vec<u8>, usize> {
    let skip_line_ends = |at: &mut usize| {
        while matches!(text.get(*at), Some(b'\n' | b'\r')) {
            *at += 1;
        }
    };
    if filled < 2 {
        return Err(at - 1);
    }
    if filled == 2 {
        skip_line_ends(&mut at);
        match text.get(at) {
            None => return Err(text.len()),
            Some(b'=') => at += 1,
            Some(_) => return Err(at - 1),
        }
    }
    skip_line_ends(&mut at);
    if at < text.len() {
        return Err(at);
    }
    push(&mut out, group, filled - 1);
    Ok(out)
}

fn push(out: &mut Vec<u8>, group: [u32; 4], bytes: usize) {
    let bits = group[0] << 18 | group[1] << 12 | group[2] << 6 | group[3];
    out.extend_from_slice(&bits.to_be_bytes()[1..=bytes]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_survives_both_ways() {
        for len in 0..300usize {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let mut text = Vec::new();
            write(&mut text, &bytes);
            assert_eq!(text.len(), len.div_ceil(3) * 4);
            assert_eq!(read(&text), Ok(bytes));
        }
    }

    #[test]
    fn reading_gives_up_where_go_does() {
        for (text, want) in [
            ("AP8=", Ok(&[0u8, 255][..])),
            ("", Ok(&[])),
            ("AA\r\nH+/w\n==\n", Ok(&[0, 1, 254, 255])),
            ("not base64!", Err(3)),
            ("AP8", Err(0)),
            ("A", Err(0)),
            ("=", Err(0)),
            ("A===", Err(1)),
            ("AA=", Err(3)),
            ("AA=A", Err(2)),
            ("AAA=A", Err(4)),
            ("AAAA=", Err(4)),
            ("_-_-", Err(0)),
        ] {
            assert_eq!(read(text.as_bytes()), want.map(<[u8]>::to_vec), "{text:?}");
        }
    }
}
