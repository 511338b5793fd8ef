//! What no text of the repository may hold, and how long it may be.

/// Lines after which a second noun is looked for.
pub(crate) const LONG: usize = 500;
/// Lines after which a reason must be written down.
const TOO_LONG: usize = 800;

/// Marks of work left open. Put together here, so that this file does not hold them.
const OPEN: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("XX", "X "),
];

/// Folders that exist on somebody's machine only.
const MACHINES: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

pub(crate) fn check(name: &str, text: &str) -> Vec<String> {
    // Recorded bytes of others are what they are.
    if name == "Cargo.lock" || name.starts_with("tests/golden/") || name == "LICENSE" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for mark in OPEN.iter().filter(|m| has_word(line, m)) {
            findings.push(format!("{name}:{}: {mark:?}: finish it, or write an issue", number + 1));
        }
        for path in MACHINES.iter().filter(|p| has_path(line, p)) {
            findings.push(format!("{name}:{}: {path:?} is a path of one machine", number + 1));
        }
    }
    findings
}

/// `mark` not as the end of a longer word (`mktemp XXXXXX` is none).
fn has_word(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// `path` from the root, not as a part of a longer one (`tests/work/x`, `http://host/work/`).
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_.-}/)".contains(c)))
}

pub(crate) fn is_source(name: &str) -> bool {
    [".rs", ".proto", ".sh", ".py", ".go", ".ts", ".java", ".mjs"].iter().any(|end| name.ends_with(end))
}

pub(crate) fn too_long(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let reason = concat!("Long be", "cause");
    (is_source(name) && lines > TOO_LONG && !text.contains(reason))
        .then(|| format!("{name}: {lines} lines, and no line that begins \"{reason}\" says why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_work_is_found() {
        for mark in OPEN {
            assert_eq!(
                check("src/a.rs", &format!("fine\n  // {mark}: later")),
                [format!("src/a.rs:2: {mark:?}: finish it, or write an issue")]
            );
        }
        assert!(check("tests/run.sh", concat!("mktemp -d x.XXX", "XXX\")")).is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_found_and_others_are_not() {
        for path in MACHINES {
            assert_eq!(check("a.md", &format!("see {path}x")).len(), 1, "{path}");
            assert_eq!(check("a.md", &format!("(`{path}x`)")).len(), 1, "{path}");
            assert!(check("a.md", &format!("http://host{path}x $dir{path} tests{path}")).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_long_file_says_why() {
        let long = "x\n".repeat(TOO_LONG + 1);
        assert!(too_long("src/a.rs", &long).is_some());
        assert!(too_long("src/a.rs", &"x\n".repeat(TOO_LONG)).is_none());
        assert!(too_long("src/a.rs", &format!("// {} it is a table.\n{long}", concat!("Long be", "cause"))).is_none());
        assert!(too_long("docs/a.md", &long).is_none());
    }
}
