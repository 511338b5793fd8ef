//! Header values: raw JSON that can be asked for its text.

use super::text::{lossy, write_string};
use super::{Cursor, JsonError, canonical};
use crate::task::{Headers, RawJson};

impl RawJson {
    /// The value that `bytes` begins with, in its canonical text: no white space, keys sorted, strings escaped as Go does,
    /// number tokens as they are.
    ///
    /// # Errors
    /// No JSON value, or one nested deeper than [`super::NESTING_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let mut out = Vec::with_capacity(bytes.len());
        canonical::write(&mut out, bytes)?;
        Ok(Self(lossy(&out).into_owned()))
    }

    /// A JSON string that holds `text`.
    pub fn string(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 2);
        write_string(&mut out, text);
        Self(lossy(&out).into_owned())
    }

    /// What a JSON string holds; `None` for any other value.
    pub fn as_string(&self) -> Option<String> {
        let text = Cursor::new(self.0.as_bytes()).string().ok()??;
        Some(text.into_owned())
    }

    /// Appends the canonical text. One that was made by hand and is no JSON is written as a string: a body that nobody can
    /// read would be worse.
    pub(in crate::wire) fn write(&self, out: &mut Vec<u8>) {
        write_canonical(out, &self.0);
    }
}

/// As [`RawJson::write`], for text that stands elsewhere.
pub(in crate::wire) fn write_canonical(out: &mut Vec<u8>, text: &str) {
    if canonical::write(out, text.as_bytes()).is_err() {
        write_string(out, text);
    }
}

/// The text of the header `key`; `None` if there is none or if it is not a string.
pub fn header_text(headers: &Headers, key: &str) -> Option<String> {
    headers.get(key)?.as_string()
}

/// Sets the header `key` to the string `text`, whatever it was before.
pub fn set_header_text(headers: &mut Headers, key: &str, text: &str) {
    headers.insert(key.to_owned(), RawJson::string(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_was_set_reads_back_and_other_kinds_are_no_text() {
        let mut headers = Headers::new();
        set_header_text(&mut headers, "lineshaft-x", "a<\"\u{2028}\n");
        assert_eq!(header_text(&headers, "lineshaft-x").as_deref(), Some("a<\"\u{2028}\n"));
        headers.insert("n".to_owned(), RawJson("5".to_owned()));
        assert_eq!(header_text(&headers, "n"), None);
        assert_eq!(header_text(&headers, "absent"), None);
    }

    #[test]
    fn a_value_made_by_hand_never_spoils_a_body() {
        let mut out = Vec::new();
        RawJson("{\"b\":1, \"a\":".to_owned()).write(&mut out);
        assert_eq!(out, br#""{\"b\":1, \"a\":""#);
    }
}
