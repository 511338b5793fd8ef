//! Strings: Go's escapes, both ways.

use std::borrow::Cow;

// What a byte of a string needs when it is written.
const PLAIN: u8 = 0;
const CONTROL: u8 = 1;
const SHORT: u8 = 2;
// First byte of U+2028 and U+2029, E2 80 A8 and E2 80 A9.
const SEPARATOR: u8 = 3;

const CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut c = 0;
    while c < 0x20 {
        class[c] = CONTROL;
        c += 1;
    }
    class[b'<' as usize] = CONTROL;
    class[b'>' as usize] = CONTROL;
    class[b'&' as usize] = CONTROL;
    class[b'"' as usize] = SHORT;
    class[b'\\' as usize] = SHORT;
    class[b'\t' as usize] = SHORT;
    class[b'\n' as usize] = SHORT;
    class[b'\r' as usize] = SHORT;
    class[0x08] = SHORT;
    class[0x0c] = SHORT;
    class[0xe2] = SEPARATOR;
    class
};

/// Appends `text` in quotes, escaped as Go escapes it: `<`, `>`, `&` and the two separators too; 0x7f and everything else
/// beyond ASCII as it is.
pub(in crate::wire) fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        let class = CLASS[usize::from(byte)];
        if class == PLAIN || class == SEPARATOR && !matches!(bytes[at..], [_, 0x80, 0xa8 | 0xa9, ..]) {
            at += 1;
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        match class {
            SHORT => out.extend_from_slice(&[
                b'\\',
                match byte {
                    b'\t' => b't',
                    b'\n' => b'n',
                    b'\r' => b'r',
                    0x08 => b'b',
                    0x0c => b'f',
                    other => other,
                },
            ]),
            CONTROL => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => {
                out.extend_from_slice(b"\\u202");
                out.push(HEX[usize::from(bytes[at + 2] & 15)]);
                at += 2;
            }
        }
        at += 1;
        from = at;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// `bytes` as text, each byte that is not UTF-8 replaced by one U+FFFD, as Go does. (The standard library replaces several
/// at once.)
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len() + 8);
            push_lossy(&mut text, bytes);
            Cow::Owned(text)
        }
    }
}

fn push_lossy(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// What stands between the quotes of a string whose escapes are well-formed (the cursor has seen to that).
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, str> {
    let Some(first) = raw.iter().position(|c| *c == b'\\') else { return lossy(raw) };
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    let mut next = Some(first);
    while let Some(at) = next {
        push_lossy(&mut text, &rest[..at]);
        rest = &rest[at..];
        let (c, length) = escape(rest);
        text.push(c);
        rest = rest.get(length..).unwrap_or_default();
        next = rest.iter().position(|c| *c == b'\\');
    }
    push_lossy(&mut text, rest);
    Cow::Owned(text)
}

// The character of the escape that `text` begins with, and the bytes it takes. A surrogate without its other half is
// U+FFFD, and what follows it is read for itself.
fn escape(text: &[u8]) -> (char, usize) {
    let short = match text.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let Some(unit) = code_unit(text) else { return (char::REPLACEMENT_CHARACTER, 6) };
            if let Some(c) = char::from_u32(unit) {
                return (c, 6);
            }
            let low = text.get(6..).and_then(code_unit).filter(|low| (0xdc00..0xe000).contains(low));
            return match low {
                Some(low) if unit < 0xdc00 => {
                    let c = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                _ => (char::REPLACEMENT_CHARACTER, 6),
            };
        }
        Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
        _ => char::REPLACEMENT_CHARACTER,
    };
    (short, 2)
}

fn code_unit(text: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = text.first_chunk::<6>()? else { return None };
    digits.iter().try_fold(0, |unit, c| Some(unit << 4 | char::from(*c).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(written("<a href=\"x\">&"), r#""\u003ca href=\"x\"\u003e\u0026""#);
        assert_eq!(written("\0\t\n\r\u{8}\u{c}\u{1f}\u{7f}/\\"), "\"\\u0000\\t\\n\\r\\b\\f\\u001f\u{7f}/\\\\\"");
        assert_eq!(written("\u{2028}\u{2029}\u{2027}é漢😀â"), "\"\\u2028\\u2029\u{2027}é漢😀â\"");
        assert_eq!(written("\u{fffd}"), "\"\u{fffd}\"");
    }

    #[test]
    fn strings_are_unescaped_as_go_does() {
        for (raw, want) in [
            (&br#"\ud83d\ude00"#[..], "😀"),
            (br#"\ud83d"#, "\u{fffd}"),
            (br#"\ud83dx"#, "\u{fffd}x"),
            (br#"\ude00\ud83d"#, "\u{fffd}\u{fffd}"),
            (br#"\ud83d\ud83d\ude00"#, "\u{fffd}😀"),
            (br#"\ud83d\u0041"#, "\u{fffd}A"),
            (br#"\/\"\\\b\f\n\r\t\u00E9"#, "/\"\\\u{8}\u{c}\n\r\té"),
            (b"\xe2\x82z\xff", "\u{fffd}\u{fffd}z\u{fffd}"),
            (b"\\n\xff", "\n\u{fffd}"),
        ] {
            assert_eq!(unescape(raw), want);
        }
    }

    #[test]
    fn every_character_survives_both_ways() {
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let text = written(&c.to_string());
            assert_eq!(unescape(&text.as_bytes()[1..text.len() - 1]), c.to_string());
        }
    }
}
