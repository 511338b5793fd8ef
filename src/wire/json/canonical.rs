//! The one text of a value: no white space, keys sorted and unique, strings escaped as Go does, numbers as they were read.
//!
//! It is what a Go worker writes when it sends a value on that it read into `interface{}`, so header values have it.

use std::borrow::Cow;

use super::JsonError;
use super::cursor::{Cursor, Part};
use super::text::{unescape, write_string};

// The value as a flat list of nodes that name each other by position: building, sorting, printing and dropping it all
// work without recursion, and a subtree is never copied to be sorted.
#[derive(Debug)]
enum Node<'a> {
    Plain(&'a [u8]),
    String(Cow<'a, str>),
    List(Vec<usize>),
    Object(Vec<(Cow<'a, str>, usize)>),
}

/// Appends the canonical text of the value that `bytes` is.
///
/// # Errors
/// `bytes` does not begin with a JSON value; nothing was appended. What follows the value is not looked at.
pub(super) fn write(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), JsonError> {
    let mut cursor = Cursor::new(bytes);
    match cursor.peek()? {
        b'{' | b'[' => print(out, &nodes(&mut cursor)?),
        b'"' => write_string(out, &cursor.string()?.unwrap_or_default()),
        _ => out.extend_from_slice(cursor.skip()?),
    }
    Ok(())
}

fn nodes<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Node<'a>>, JsonError> {
    let mut nodes = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut key = Cow::Borrowed("");
    cursor.walk(|part, text| {
        let node = match part {
            Part::Key => {
                key = unescape(text);
                return;
            }
            Part::End => {
                if let Some(Node::Object(members)) = open.pop().and_then(|at| nodes.get_mut(at)) {
                    settle(members);
                }
                return;
            }
            Part::Plain => Node::Plain(text),
            Part::String => Node::String(unescape(text)),
            Part::List => Node::List(Vec::new()),
            Part::Object => Node::Object(Vec::new()),
        };
        let at = nodes.len();
        match open.last().and_then(|parent| nodes.get_mut(*parent)) {
            Some(Node::List(elements)) => elements.push(at),
            Some(Node::Object(members)) => members.push((std::mem::take(&mut key), at)),
            _ => {}
        }
        if matches!(node, Node::List(_) | Node::Object(_)) {
            open.push(at);
        }
        nodes.push(node);
    })?;
    Ok(nodes)
}

// Sorts the members of an object that is complete. Of several under one key the last stays.
fn settle(members: &mut Vec<(Cow<'_, str>, usize)>) {
    members.sort_by(|(a, at), (b, bt)| a.cmp(b).then(bt.cmp(at)));
    members.dedup_by(|(key, _), (kept, _)| key == kept);
}

fn print(out: &mut Vec<u8>, nodes: &[Node<'_>]) {
    // What is being printed, and how many of its items have been.
    let mut open = vec![(0, 0)];
    while let Some((at, printed)) = open.pop() {
        let (item, close) = match nodes.get(at) {
            Some(Node::Plain(text)) => {
                out.extend_from_slice(text);
                continue;
            }
            Some(Node::String(text)) => {
                write_string(out, text);
                continue;
            }
            Some(Node::List(elements)) => {
                separate(out, printed, b'[');
                (elements.get(printed).copied(), b']')
            }
            Some(Node::Object(members)) => {
                let member = members.get(printed);
                separate(out, printed, b'{');
                if let Some((key, _)) = member {
                    if printed > 0 {
                        out.push(b',');
                    }
                    write_string(out, key);
                    out.push(b':');
                }
                (member.map(|(_, value)| *value), b'}')
            }
            None => continue,
        };
        match item {
            Some(item) => {
                if close == b']' && printed > 0 {
                    out.push(b',');
                }
                open.push((at, printed + 1));
                open.push((item, 0));
            }
            None => out.push(close),
        }
    }
}

fn separate(out: &mut Vec<u8>, printed: usize, opening: u8) {
    if printed == 0 {
        out.push(opening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, text.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn spacing_order_and_escapes_are_settled_and_numbers_are_not_touched() {
        for (text, want) in [
            (" null ", "null"),
            ("1.50", "1.50"),
            ("9007199254740993", "9007199254740993"),
            ("\"\\u0041<\"", "\"A\\u003c\""),
            ("[ ]", "[]"),
            ("{ }", "{}"),
            ("[1, [2 , {}], \"x\" ]", "[1,[2,{}],\"x\"]"),
            ("{\"b\" : 1e3, \"a\": {\"d\":[], \"c\":null}}", "{\"a\":{\"c\":null,\"d\":[]},\"b\":1e3}"),
            ("{\"a\":1,\"b\":2,\"a\":[3],\"a\":4}", "{\"a\":4,\"b\":2}"),
            ("{\"\\u0062\":1,\"a\":2}", "{\"a\":2,\"b\":1}"),
        ] {
            assert_eq!(canonical(text), want);
            assert_eq!(canonical(want), want);
        }
    }

    #[test]
    fn depth_needs_no_stack_and_sorting_at_every_level_no_copies() {
        let levels = 9_999;
        let text = ["{\"b\":".repeat(levels), "0".to_owned(), ",\"a\":1}".repeat(levels)].concat();
        let want = ["{\"a\":1,\"b\":".repeat(levels), "0".to_owned(), "}".repeat(levels)].concat();
        let run = move || assert!(canonical(&text) == want);
        std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
    }
}
