//! What is written down: services, words, decisions, links.

/// Services and calls of the protocol that the architecture does not name, and services that it names but are gone.
pub(crate) fn services(protos: &[(String, String)], architecture: &str) -> Vec<String> {
    let mut services = Vec::new();
    let mut findings = Vec::new();
    for (name, text) in protos {
        for line in text.lines() {
            let mut words = line.trim().split([' ', '(', '{']);
            let (kind, what) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if kind == "service" {
                services.push(what.to_owned());
            }
            if matches!(kind, "service" | "rpc") && !architecture.contains(&format!("`{what}`")) {
                findings.push(format!("ARCHITECTURE.md does not name the {kind} `{what}` of {name}"));
            }
        }
    }
    for told in quoted(architecture).filter(|t| t.ends_with("Service") && t.len() > "Service".len()) {
        if !services.iter().any(|s| s == told) {
            findings.push(format!("ARCHITECTURE.md names the service `{told}`, which is not in proto/"));
        }
    }
    findings
}

/// What stands in single backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|l| !l.starts_with("```")).flat_map(|l| l.split('`').skip(1).step_by(2))
}

/// Paths of the repository that a document names in backquotes: `src/…`, `tests/…` and so on, without patterns.
pub(crate) fn paths(text: &str) -> Vec<String> {
    let roots = ["src/", "proto/", "tests/", "clients/", "deploy/"];
    quoted(text)
        .filter(|q| roots.iter().any(|r| q.starts_with(r)) && !q.contains(['*', '{', '<', ' ', '…']))
        .map(str::to_owned)
        .collect()
}

/// The documents and the protocol, whose words are for people. Code is read by those who know its rooms.
pub(crate) fn is_spoken(name: &str) -> bool {
    (name.starts_with("proto/") && name.ends_with(".proto"))
        || matches!(name, "README.md" | "ARCHITECTURE.md" | "CHANGELOG.md")
        || (name.starts_with("src/docs/") && name.ends_with(".md") && name != "src/docs/glossary.md")
}

/// The table of `glossary.md`: a word, its meaning, the words that are not used for it.
pub(crate) struct Glossary {
    rows: Vec<[String; 3]>,
}

/// What must have an entry: the words on which promises are built.
const WORDS: [&str; 16] = [
    "task",
    "attempt",
    "message",
    "session",
    "lease",
    "fencing token",
    "credit",
    "receipt",
    "delivery",
    "acknowledgement",
    "decision",
    "effect",
    "broker",
    "backend",
    "ledger",
    "dead task",
];

impl Glossary {
    pub(crate) fn parse(text: &str) -> Self {
        let rows = text
            .lines()
            .filter(|l| l.starts_with("| ") && !l.starts_with("| Word"))
            .filter_map(|l| {
                let cells: Vec<_> = l.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
                <[String; 3]>::try_from(cells).ok()
            })
            .collect();
        Self { rows }
    }

    /// The words of an entry, `a / b` being two.
    fn words(row: &[String; 3]) -> impl Iterator<Item = &str> {
        row[0].split(['/', ',', '(']).map(|w| w.trim().trim_end_matches(')').trim_matches('*').trim())
    }

    pub(crate) fn check_itself(&self) -> Vec<String> {
        let missing = WORDS
            .iter()
            .filter(|w| !self.rows.iter().any(|r| Self::words(r).any(|x| x == **w)))
            .map(|w| format!("glossary.md has no entry for {w:?}"));
        let empty = self
            .rows
            .iter()
            .filter(|r| r[1].is_empty())
            .map(|r| format!("glossary.md does not say what {:?} means", r[0]));
        missing.chain(empty).collect()
    }

    /// Refused words are struck through in the last column, as `~~job~~`; none is used for people.
    pub(crate) fn check(&self, name: &str, text: &str) -> Vec<String> {
        let refused: Vec<(&str, &str)> = self
            .rows
            .iter()
            .flat_map(|row| row[2].split("~~").skip(1).step_by(2).map(|w| (w, row[0].as_str())))
            .collect();
        let mut findings = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase).collect::<Vec<_>>();
            for (word, instead) in &refused {
                if words.iter().any(|w| w == word || w.strip_suffix('s') == Some(word)) {
                    findings.push(format!(
                        "{name}:{}: {word:?}; here it is called {instead:?} (src/docs/glossary.md)",
                        number + 1
                    ));
                }
            }
        }
        findings
    }
}

/// `adrs`: file name and text of each decision.
pub(crate) fn decisions(adrs: &[(String, String)]) -> Vec<String> {
    let mut findings = Vec::new();
    if adrs.is_empty() {
        findings.push("there is no decision in src/docs/adr".to_owned());
    }
    let mut names: Vec<_> = adrs.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    for (expected, name) in (1..).zip(names) {
        if !name.starts_with(&format!("{expected:04}-")) || !name.ends_with(".md") {
            findings.push(format!("src/docs/adr/{name}: the next decision has the number {expected:04}"));
        }
    }
    for (name, text) in adrs {
        for heading in
            ["## Context", "## Decision", "## Alternatives refused", "## Consequences", "## What would change our mind"]
        {
            if !text.lines().any(|l| l == heading) {
                findings.push(format!("src/docs/adr/{name} has no {heading:?}"));
            }
        }
    }
    findings
}

/// Documents of `src/docs/` that `mod.rs` there does not include, so that nothing builds them.
pub(crate) fn unbuilt(documents: &[String], module: &str) -> Vec<String> {
    documents
        .iter()
        .filter(|d| !module.contains(&format!("include_str!(\"{d}\")")))
        .map(|d| format!("src/docs/mod.rs does not include {d}"))
        .collect()
}

/// Links of a Markdown document to files: the document, and the path from the root.
pub(crate) fn links(name: &str, text: &str) -> Vec<(String, String)> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    text.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| {
            !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") && !target.contains("::")
        })
        .filter(|target| target.contains(['.', '/']))
        .map(|target| (name.to_owned(), join(folder, target)))
        .collect()
}

fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn services_and_calls_must_be_named() {
        let protos = [owned("proto/a.proto", "service AService {\n  rpc Do(DoRequest) returns (DoResponse);\n}")];
        assert!(services(&protos, "`AService` has `Do`").is_empty());
        assert_eq!(services(&protos, "`AService`").len(), 1);
        assert_eq!(services(&protos, "AService, Do").len(), 2);
        assert_eq!(services(&protos, "`AService` `Do` `BService`").len(), 1);
    }

    #[test]
    fn paths_in_backquotes_are_found() {
        assert_eq!(paths("see `src/a.rs`, `src/*/mod.rs`, `Credit` and `tests/run.sh`"), ["src/a.rs", "tests/run.sh"]);
    }

    #[test]
    fn the_glossary_refuses_words_and_knows_its_own() {
        let glossary = Glossary::parse(
            "| Word | Means | Not |\n|---|---|---|\n| **task** / attempt | a unit | ~~job~~, message |\n| lease |  | |",
        );
        assert_eq!(glossary.check("README.md", "A job.\nTwo Jobs; a message; jobless.").len(), 2);
        let own = glossary.check_itself();
        assert!(own.iter().any(|f| f.contains("\"session\"")) && own.iter().any(|f| f.contains("\"lease\" means")));
        assert!(!own.iter().any(|f| f.contains("\"attempt\"") || f.contains("\"task\"")));
    }

    #[test]
    fn decisions_have_numbers_and_five_parts() {
        let whole = "## Context\n## Decision\n## Alternatives refused\n## Consequences\n## What would change our mind";
        assert!(decisions(&[owned("0001-a.md", whole), owned("0002-b.md", whole)]).is_empty());
        assert_eq!(decisions(&[owned("0002-a.md", whole)]).len(), 1);
        assert_eq!(decisions(&[owned("0001-a.md", "## Context")]).len(), 4);
        assert_eq!(decisions(&[]).len(), 1);
    }

    #[test]
    fn documents_that_nothing_builds_are_found() {
        let documents = ["a.md".to_owned(), "adr/b.md".to_owned()];
        assert!(unbuilt(&documents, "include_str!(\"a.md\") include_str!(\"adr/b.md\")").is_empty());
        assert_eq!(unbuilt(&documents, "include_str!(\"b.md\") // a.md").len(), 2);
    }

    #[test]
    fn links_are_followed_from_their_document() {
        let text = "[a](b.md) [c](../d/e.md#f) [g](https://h) [i](#j) [k](crate::l)";
        assert_eq!(
            links("src/docs/x.md", text),
            [owned("src/docs/x.md", "src/docs/b.md"), owned("src/docs/x.md", "src/d/e.md")]
        );
    }
}
