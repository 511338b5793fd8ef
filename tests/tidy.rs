//! Rules of the house that no compiler knows: who may touch what, what lies where, what is written down.
//!
//! Each rule is a function over text, tried on small bad examples beside it, and then on the repository.

// A repository that cannot be read fails the test, with the place.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/layout.rs"]
mod layout;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/walls.rs"]
mod walls;

use std::path::{Path, PathBuf};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What of the repository is not ours to tidy: results of builds and data of running servers, as in `.gitignore`.
const SKIPPED: [&str; 5] = [".git", "target", "lineshaft-data", "node_modules", "__pycache__"];

/// Every file under `dir`, in order, links not followed.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if SKIPPED.iter().any(|s| entry.file_name() == *s) {
                continue;
            }
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Every text file of the repository: its path from the root, and its text.
fn texts() -> Vec<(String, String)> {
    files(root())
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            Some((name, String::from_utf8(std::fs::read(&path).unwrap()).ok()?))
        })
        .collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Fails with all findings at once: whoever tidies wants the list.
#[track_caller]
fn assert_none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn rooms_touch_only_what_they_may() {
    let sources: Vec<_> =
        texts().into_iter().filter(|(name, _)| name.starts_with("src/") && name.ends_with(".rs")).collect();
    assert!(sources.len() > 10, "the sources were not found");
    assert_none(walls::check(&sources));
}

#[test]
fn no_text_names_a_machine_or_leaves_work_open() {
    assert_none(texts().iter().flat_map(|(name, text)| text::check(name, text)).collect());
}

#[test]
fn no_file_is_longer_than_it_must_be() {
    let texts = texts();
    for (name, text) in &texts {
        if text::is_source(name) && text.lines().count() > text::LONG {
            println!("{name}: {} lines; is there a second noun in it?", text.lines().count());
        }
    }
    assert_none(texts.iter().filter_map(|(name, text)| text::too_long(name, text)).collect());
}

#[test]
fn the_root_holds_only_what_people_and_tools_look_for_there() {
    let names: Vec<_> = std::fs::read_dir(root())
        .unwrap()
        .map(Result::unwrap)
        .map(|e| (e.file_name().to_str().unwrap().to_owned(), e.file_type().unwrap().is_dir()))
        .filter(|(name, _)| !SKIPPED.contains(&name.as_str()))
        .collect();
    assert_none(layout::root(&names));
}

#[test]
fn the_compose_file_leaves_nothing_to_chance() {
    let text = read("docker-compose.yml");
    for service in ["lineshaft", "redis", "rabbitmq", "jaeger"] {
        assert!(text.contains(&format!("\n  {service}:\n")), "no service {service}");
    }
    assert_none(layout::compose(&text));
}

#[test]
fn every_module_has_its_line_in_the_layout() {
    assert_none(layout::modules(&read("src/lib.rs")));
}

#[test]
fn the_lock_file_is_part_of_the_repository() {
    assert!(read("Cargo.lock").contains("name = \"lineshaft\""));
    assert!(!layout::ignores(&read(".gitignore"), "Cargo.lock"), "Cargo.lock is ignored");
}

#[test]
fn every_dependency_is_accounted_for() {
    let adr = read("src/docs/adr/0002-dependencies.md");
    assert_none(
        ["Cargo.toml", "clients/rust/Cargo.toml"].iter().flat_map(|m| layout::dependencies(&read(m), &adr)).collect(),
    );
}

#[test]
fn the_architecture_names_every_service_and_call() {
    let protos: Vec<_> =
        texts().into_iter().filter(|(name, _)| name.starts_with("proto/") && name.ends_with(".proto")).collect();
    assert!(!protos.is_empty());
    assert_none(documents::services(&protos, &read("ARCHITECTURE.md")));
}

#[test]
fn words_mean_what_the_glossary_says() {
    let glossary = documents::Glossary::parse(&read("src/docs/glossary.md"));
    assert_none(glossary.check_itself());
    let spoken: Vec<_> = texts().into_iter().filter(|(name, _)| documents::is_spoken(name)).collect();
    assert!(spoken.len() > 5);
    assert_none(spoken.iter().flat_map(|(name, text)| glossary.check(name, text)).collect());
}

#[test]
fn decisions_are_numbered_and_complete() {
    let adrs: Vec<_> = texts()
        .into_iter()
        .filter_map(|(name, text)| Some((name.strip_prefix("src/docs/adr/")?.to_owned(), text)))
        .collect();
    assert_none(documents::decisions(&adrs));
}

#[test]
fn every_document_is_built_with_the_code() {
    let documents: Vec<_> = files(&root().join("src/docs"))
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "md"))
        .map(|f| f.strip_prefix(root().join("src/docs")).unwrap().to_str().unwrap().replace('\\', "/"))
        .collect();
    assert!(!documents.is_empty());
    assert_none(documents::unbuilt(&documents, &read("src/docs/mod.rs")));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let broken = texts()
        .iter()
        .filter(|(name, _)| name.ends_with(".md"))
        .flat_map(|(name, text)| documents::links(name, text))
        .filter(|(_, target)| !root().join(target).exists())
        .map(|(from, target)| format!("{from}: {target} does not exist"))
        .collect();
    assert_none(broken);
}

#[test]
fn the_readme_tells_the_two_commands_and_every_architecture_path_exists() {
    let readme = read("README.md");
    for command in ["cargo run --release -- demo", "tests/run.sh"] {
        assert!(readme.contains(command), "README.md does not tell {command:?}");
    }
    let missing = documents::paths(&read("ARCHITECTURE.md"))
        .into_iter()
        .filter(|path| !root().join(path).exists())
        .map(|path| format!("ARCHITECTURE.md: {path} does not exist"))
        .collect();
    assert_none(missing);
}
