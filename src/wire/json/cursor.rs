//! Reading: a position in a text, and the steps it can take.

use std::borrow::Cow;

use super::{JsonError, NESTING_MAX, text};

/// A position in a JSON text. Steps either take something whole or answer an error; none recurses.
#[derive(Debug)]
pub(in crate::wire) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    // Objects and lists that the caller is inside of.
    depth: usize,
    // Scratch of `skip`: what is open, as its closing byte.
    open: Vec<u8>,
}

impl<'a> Cursor<'a> {
    pub(in crate::wire) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0, open: Vec::new() }
    }

    /// Bytes before the position.
    pub(in crate::wire) fn at(&self) -> usize {
        self.at
    }

    fn error(&self, why: &'static str) -> JsonError {
        JsonError { at: self.at, why }
    }

    /// The first byte of what comes next, after any white space.
    pub(in crate::wire) fn peek(&mut self) -> Result<u8, JsonError> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(c) => return Ok(*c),
                None => return Err(self.error("unexpected end")),
            }
        }
    }

    fn take(&mut self, byte: u8, why: &'static str) -> Result<(), JsonError> {
        if self.peek()? != byte {
            return Err(self.error(why));
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.error("unknown word"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Takes `null` if it comes next; tells whether it did.
    pub(in crate::wire) fn null(&mut self) -> Result<bool, JsonError> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.literal(b"null")?;
        Ok(true)
    }

    /// Takes `true` or `false`; `None` if something else comes next.
    pub(in crate::wire) fn boolean(&mut self) -> Result<Option<bool>, JsonError> {
        match self.peek()? {
            b't' => self.literal(b"true").map(|()| Some(true)),
            b'f' => self.literal(b"false").map(|()| Some(false)),
            _ => Ok(None),
        }
    }

    /// Takes a number; `None` if something else comes next. The token is ASCII and has JSON's form.
    pub(in crate::wire) fn number(&mut self) -> Result<Option<&'a str>, JsonError> {
        if !matches!(self.peek()?, b'-' | b'0'..=b'9') {
            return Ok(None);
        }
        let from = self.at;
        self.skip_number()?;
        // Only ASCII was taken, so this is the token and never the default.
        Ok(Some(std::str::from_utf8(&self.bytes[from..self.at]).unwrap_or_default()))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.bytes[self.at..].iter().take_while(|c| c.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.error("a digit is missing")) } else { Ok(()) }
    }

    fn skip_number(&mut self) -> Result<(), JsonError> {
        let next = |cursor: &Self| cursor.bytes.get(cursor.at).copied();
        if next(self) == Some(b'-') {
            self.at += 1;
        }
        match next(self) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if next(self) == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = next(self) {
            self.at += 1;
            if let Some(b'+' | b'-') = next(self) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Takes a string and answers what stands between its quotes; `None` if something else comes next.
    pub(in crate::wire) fn raw_string(&mut self) -> Result<Option<&'a [u8]>, JsonError> {
        if self.peek()? != b'"' {
            return Ok(None);
        }
        let from = self.at + 1;
        self.skip_string()?;
        Ok(Some(&self.bytes[from..self.at - 1]))
    }

    /// Takes a string; `None` if something else comes next.
    pub(in crate::wire) fn string(&mut self) -> Result<Option<Cow<'a, str>>, JsonError> {
        Ok(self.raw_string()?.map(text::unescape))
    }

    // From the opening quote to behind the closing one.
    fn skip_string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(plain) = rest.iter().position(|c| matches!(c, b'"' | b'\\' | 0..0x20)) else {
                self.at = self.bytes.len();
                return Err(self.error("a string without its end"));
            };
            self.at += plain;
            match rest[plain..] {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => self.at += 6,
                [b'\\', ..] => return Err(self.error("an unknown escape")),
                _ => return Err(self.error("a control character in a string")),
            }
        }
    }

    fn key(&mut self) -> Result<&'a [u8], JsonError> {
        let key = self.raw_string()?.ok_or_else(|| self.error("a key is missing"))?;
        self.take(b':', "a colon is missing")?;
        Ok(key)
    }

    // Takes the comma before the next item of a list or object, or its end; tells which.
    fn another(&mut self, close: u8) -> Result<bool, JsonError> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            c if c == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.error("a comma is missing")),
        }
    }

    /// Takes an object, its members one by one: `each` must take the value. False if something else comes next.
    pub(in crate::wire) fn members<E: From<JsonError>>(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.peek()? != b'{' {
            return Ok(false);
        }
        self.enter()?;
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                let key = text::unescape(self.key()?);
                each(self, &key)?;
                if !self.another(b'}')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(true)
    }

    /// Takes a list, its elements one by one: `each` must take the element. False if something else comes next.
    pub(in crate::wire) fn elements<E: From<JsonError>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.peek()? != b'[' {
            return Ok(false);
        }
        self.enter()?;
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                each(self)?;
                if !self.another(b']')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(true)
    }

    fn enter(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(self.error("nested too deep"));
        }
        self.at += 1;
        Ok(())
    }

    /// Takes the next value whatever it is, and answers its text without the white space around it.
    pub(in crate::wire) fn skip(&mut self) -> Result<&'a [u8], JsonError> {
        self.peek()?;
        let from = self.at;
        self.walk(|_, _| {})?;
        Ok(&self.bytes[from..self.at])
    }

    /// Takes the next value whatever it is, and tells `visit` its parts in order, with the text of each. Depth costs a byte
    /// of heap for each level and no stack.
    pub(super) fn walk(&mut self, mut visit: impl FnMut(Part, &'a [u8])) -> Result<(), JsonError> {
        let mut open = std::mem::take(&mut self.open);
        open.clear();
        let done = self.walk_in(&mut open, &mut visit);
        self.open = open;
        done
    }

    fn walk_in(&mut self, open: &mut Vec<u8>, visit: &mut impl FnMut(Part, &'a [u8])) -> Result<(), JsonError> {
        loop {
            let first = self.peek()?;
            let from = self.at;
            match first {
                b'{' | b'[' => {
                    if self.depth + open.len() >= NESTING_MAX {
                        return Err(self.error("nested too deep"));
                    }
                    self.at += 1;
                    visit(if first == b'{' { Part::Object } else { Part::List }, &[]);
                    // ASCII: a closing bracket is two after its opening one.
                    open.push(first + 2);
                    if self.peek()? != first + 2 {
                        if first == b'{' {
                            visit(Part::Key, self.key()?);
                        }
                        continue;
                    }
                    self.at += 1;
                    open.pop();
                    visit(Part::End, &[]);
                }
                b'"' => {
                    self.skip_string()?;
                    visit(Part::String, &self.bytes[from + 1..self.at - 1]);
                }
                _ => {
                    match first {
                        b't' => self.literal(b"true")?,
                        b'f' => self.literal(b"false")?,
                        b'n' => self.literal(b"null")?,
                        b'-' | b'0'..=b'9' => self.skip_number()?,
                        _ => return Err(self.error("no value begins like this")),
                    }
                    visit(Part::Plain, &self.bytes[from..self.at]);
                }
            }
            // A value has ended; so may what it stands in.
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                if self.another(close)? {
                    if close == b'}' {
                        visit(Part::Key, self.key()?);
                    }
                    break;
                }
                open.pop();
                visit(Part::End, &[]);
            }
        }
    }
}

/// A part of a value, as [`Cursor::walk`] meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// An object begins.
    Object,
    /// A list begins.
    List,
    /// The key of the member that follows; the text is that between the quotes.
    Key,
    /// A string; the text is that between the quotes.
    String,
    /// A number, `true`, `false` or `null`.
    Plain,
    /// The innermost object or list ends.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_whole_and_what_follows_is_left() {
        for text in ["null", "-0", "1.5e+10", "\"a\\\"]}\"", "[]", "{}", "[1,[2,{\"a\":[true,false]}],{}]"] {
            let padded = format!(" \n{text} ,rest");
            let mut cursor = Cursor::new(padded.as_bytes());
            assert_eq!(cursor.skip(), Ok(text.as_bytes()), "{text}");
            assert_eq!(cursor.peek(), Ok(b','));
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            " ",
            "nul",
            "tru",
            "+1",
            ".5",
            "1.",
            "1e",
            "-",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[",
            "[1",
            "[1,]",
            "[,1]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "[1}",
            "{\"a\":1]",
            "'a'",
            "}",
            "\"\\",
            "\"\\u00",
        ] {
            assert!(Cursor::new(text.as_bytes()).skip().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ten_thousand_levels_are_taken_and_one_more_is_refused() {
        let nested = |levels| [vec![b'['; levels], vec![b']'; levels]].concat();
        assert!(Cursor::new(&nested(NESTING_MAX)).skip().is_ok());
        assert!(Cursor::new(&nested(NESTING_MAX + 1)).skip().is_err());
    }
}
