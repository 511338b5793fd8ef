//! Reading Rust just well enough to know which paths a file names: no comments, no strings, no tests.

/// Where a source file stands: `src/broker/redis/client.rs` is `["broker", "redis", "client"]`.
pub(crate) fn module_of(name: &str) -> Vec<String> {
    let name = name.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = name.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The code alone: comments, strings and character literals become spaces, line breaks stay.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let blank = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while i < chars.len() {
        let begin = i;
        let end = match at(i) {
            '/' if at(i + 1) == '/' => (i..).find(|&j| at(j) == '\n' || j >= chars.len()).unwrap_or(i),
            '/' if at(i + 1) == '*' => block_comment(&chars, i),
            'r' | 'b' | 'c' | '"' if !is_word(at(i.wrapping_sub(1))) || i == 0 => string(&chars, i),
            '\'' => character(&chars, i),
            _ => i,
        };
        if end > begin {
            chars[begin..end.min(chars.len())].iter().for_each(|&c| blank(&mut out, c));
            i = end;
        } else {
            out.push(at(i));
            i += 1;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut i, mut depth) = (start, 0);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

/// The end of a string literal of any kind at `start`; `start` if there is none.
fn string(chars: &[char], start: usize) -> usize {
    let mut i = start;
    while matches!(chars.get(i), Some('r' | 'b' | 'c')) {
        i += 1;
    }
    let raw = chars[start..i].contains(&'r');
    let hashes = chars[i..].iter().take_while(|&&c| c == '#').count();
    if chars.get(i + hashes) != Some(&'"') || i - start > 2 || (hashes > 0 && !raw) {
        return start;
    }
    i += hashes + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' if !raw => i += 2,
            '"' if chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes => {
                return i + 1 + hashes;
            }
            _ => i += 1,
        }
    }
    i
}

/// The end of a character literal at `start`; `start` if it is a lifetime.
fn character(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => (start + 3..chars.len()).find(|&j| chars[j] == '\'').map_or(start, |j| j + 1),
        (Some(_), Some('\'')) => start + 3,
        _ => start,
    }
}

/// `code` without what only tests see: items under `#[cfg(test)]`.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(begin) = rest.find(MARK) {
        out.push_str(&rest[..begin]);
        let item = &rest[begin + MARK.len()..];
        let end = item_end(item);
        out.extend(item[..end].chars().filter(|&c| c == '\n'));
        rest = &item[end..];
    }
    out.push_str(rest);
    out
}

/// Where the item that `text` begins with ends: at its semicolon, or behind its braces.
fn item_end(text: &str) -> usize {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            ';' if depth == 0 => return i + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return i + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// Modules that a file declares for tests only: `#[cfg(test)] mod tests;`.
pub(crate) fn test_modules(code: &str) -> Vec<String> {
    code.split("#[cfg(test)]")
        .skip(1)
        .filter_map(|item| {
            let name =
                item.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod ")?;
            Some(name.split_once(';')?.0.trim().to_owned())
        })
        .collect()
}

/// A path as written, made absolute: `["crate", "broker", "Broker"]`, `["tokio", "time"]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

/// Every path of two or more parts in `code`, groups of `use` unfolded, `self` and `super` resolved from `module`.
pub(crate) fn paths(code: &str, module: &[String]) -> Vec<Named> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if is_word(tokens[i].1.chars().next().unwrap_or(' ')) {
            i = path(&tokens, i, Vec::new(), &mut found);
        } else {
            i += 1;
        }
    }
    for named in &mut found {
        absolute(&mut named.path, module);
    }
    found.retain(|named| named.path.len() > 1);
    found
}

fn absolute(path: &mut Vec<String>, module: &[String]) {
    let ups = path.iter().take_while(|p| *p == "super").count();
    let own = usize::from(path.first().is_some_and(|p| p == "self"));
    if ups + own > 0 {
        let base = &module[..module.len().saturating_sub(ups)];
        let full = std::iter::once("crate".to_owned()).chain(base.iter().cloned());
        let rest = path.split_off(ups + own);
        *path = full.chain(rest).collect();
    } else if path.first().is_some_and(|p| p == "lineshaft") {
        "crate".clone_into(&mut path[0]);
    }
}

/// Reads one path from `tokens[i]` on, behind `prefix`; answers where it ends.
fn path(tokens: &[(usize, &str)], mut i: usize, mut prefix: Vec<String>, found: &mut Vec<Named>) -> usize {
    let line = tokens[i].0;
    loop {
        match tokens.get(i) {
            Some((_, "{")) => return group(tokens, i + 1, &prefix, found),
            Some((_, word)) if is_word(word.chars().next().unwrap_or(' ')) || *word == "*" => {
                prefix.push((*word).to_owned());
                i += 1;
            }
            _ => break,
        }
        match tokens.get(i) {
            Some((_, "::")) => i += 1,
            _ => break,
        }
    }
    found.push(Named { line, path: prefix });
    i
}

fn group(tokens: &[(usize, &str)], mut i: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
    while let Some((_, token)) = tokens.get(i) {
        match *token {
            "}" => return i + 1,
            "," => i += 1,
            "as" => i += 2,
            _ => {
                let next = path(tokens, i, prefix.to_vec(), found);
                i = if next == i { i + 1 } else { next };
            }
        }
    }
    i
}

/// Words, `::`, and single signs, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let len = if is_word(c) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            c.len_utf8()
        };
        if c == '\n' {
            line += 1;
        } else if !c.is_whitespace() {
            out.push((line, &rest[..len]));
        }
        rest = &rest[len..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(code: &str, module: &str) -> Vec<String> {
        let module: Vec<_> = module.split("::").filter(|m| !m.is_empty()).map(str::to_owned).collect();
        paths(code, &module).into_iter().map(|n| n.path.join("::")).collect()
    }

    #[test]
    fn files_are_where_their_modules_are() {
        assert_eq!(module_of("src/broker/redis/client.rs"), ["broker", "redis", "client"]);
        assert_eq!(module_of("src/broker/mod.rs"), ["broker"]);
        assert!(module_of("src/lib.rs").is_empty());
    }

    #[test]
    fn comments_strings_and_characters_are_no_code() {
        let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# l 'm' '\\'' n<'o> b\"p\"";
        let words: Vec<_> = code(text).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["a", "e", "i", "l", "n<'o>"]);
        assert_eq!(code("/* 1\n2 */ x").matches('\n').count(), 1);
    }

    #[test]
    fn what_only_tests_see_is_left_out() {
        let code = "use a::b;\n#[cfg(test)]\nmod tests {\n use c::d; fn f() { {} }\n}\nuse e::f;\n#[cfg(test)] use g::h;\nuse i::j;";
        assert_eq!(named(&without_tests(code), ""), ["a::b", "e::f", "i::j"]);
        assert_eq!(without_tests(code).matches('\n').count(), code.matches('\n').count());
        assert_eq!(test_modules("#[cfg(test)]\nmod tests;\nmod real;"), ["tests"]);
    }

    #[test]
    fn groups_are_unfolded_and_relative_paths_resolved() {
        assert_eq!(
            named("use crate::{a, b::{self, c as d}, e::*};", ""),
            ["crate::a", "crate::b::self", "crate::b::c", "crate::e::*"]
        );
        assert_eq!(
            named("use super::x; use self::y; super::super::z()", "broker::redis"),
            ["crate::broker::x", "crate::broker::redis::y", "crate::z"]
        );
        assert_eq!(
            named("fn f(x: &dyn crate::ledger::Ledger) { lineshaft::cli::run() }", ""),
            ["crate::ledger::Ledger", "crate::cli::run"]
        );
    }
}
