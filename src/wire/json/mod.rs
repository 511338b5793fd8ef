//! JSON text as Go's `encoding/json` reads and writes it.
//!
//! Reading is as lenient as Go where Machinery's workers depend on it: lone surrogates and invalid UTF-8 become U+FFFD, keys
//! match whatever their case, the last of several equal keys wins. It never recurses, and it never turns a number into
//! anything before its label says what it is. `serde_json` is stricter in the first respects and recursive in the others.

mod canonical;
mod cursor;
mod number;
mod raw;
mod text;

pub use raw::{header_text, set_header_text};

pub(in crate::wire) use cursor::Cursor;
pub(in crate::wire) use number::{write_f32, write_f64, write_i64, write_u64};
pub(in crate::wire) use raw::write_canonical;
pub(in crate::wire) use text::write_string;

/// Text that is not JSON, or nested too deep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {at}: {why}")]
pub struct JsonError {
    /// Position of the first byte that cannot be read, from 0.
    pub at: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Objects and lists inside each other; deeper text is refused, as Go does.
pub const NESTING_MAX: usize = 10_000;

/// True if Go's decoder takes `key` for the field `name`: equal but for the case of letters. `name` is ASCII, but two letters
/// beyond ASCII fold to one: the long s and the sign of the kelvin.
pub(in crate::wire) fn folds_to(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.len() >= name.len() && key.chars().map(fold).eq(name.chars().map(fold))
}

#[cfg(test)]
mod tests {
    use super::folds_to;

    #[test]
    fn keys_fold_as_in_go() {
        assert!(folds_to("uuid", "UUID"));
        assert!(folds_to("\u{17f}tate", "State"));
        assert!(folds_to("Routing\u{212a}ey", "RoutingKey"));
        assert!(!folds_to("UUI", "UUID"));
        assert!(!folds_to("UUIDs", "UUID"));
    }
}
