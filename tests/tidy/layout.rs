//! What lies where: the root, the list of modules, the dependencies.

/// Everything at the root, and nothing else.
const FOLDERS: [&str; 8] = [".ci", ".github", "clients", "deploy", "examples", "proto", "src", "tests"];
const FILES: [&str; 17] = [
    ".dockerignore",
    ".gitattributes",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "build.rs",
    "clippy.toml",
    "deny.toml",
    "docker-compose.yml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    // A worktree's link to its repository.
    ".git",
];
/// Of those, the ones that must be there.
const REQUIRED: [&str; 12] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "build.rs",
    "docker-compose.yml",
    "proto",
    "src",
    "clients",
    "tests",
];

/// `names`: each with whether it is a folder.
pub(crate) fn root(names: &[(String, bool)]) -> Vec<String> {
    let unknown = names
        .iter()
        .filter(|(name, folder)| !(if *folder { &FOLDERS[..] } else { &FILES[..] }).contains(&name.as_str()))
        .map(|(name, _)| format!("{name:?} is not on the list of what lies at the root"));
    let missing = REQUIRED
        .iter()
        .filter(|r| !names.iter().any(|(n, _)| n == *r))
        .map(|r| format!("{r:?} is missing at the root"));
    unknown.chain(missing).collect()
}

/// Compares the modules that `lib.rs` declares with the `# Layout` of its documentation.
pub(crate) fn modules(lib: &str) -> Vec<String> {
    let layout = lib
        .lines()
        .skip_while(|l| l.trim() != "//! # Layout")
        .take_while(|l| l.starts_with("//!"))
        .collect::<Vec<_>>()
        .join("\n");
    let declared: Vec<&str> = lib
        .lines()
        .filter_map(|l| l.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    let told: Vec<&str> = layout.split("[`").skip(1).filter_map(|l| Some(l.split_once("`]")?.0)).collect();
    // A module behind a feature is not linked, since the link would be broken without it.
    let untold = declared
        .iter()
        .filter(|d| !layout.contains(&format!("`{d}`")))
        .map(|d| format!("src/lib.rs: `{d}` has no line in # Layout"));
    let gone = told
        .iter()
        .filter(|t| !declared.contains(t))
        .map(|t| format!("src/lib.rs: # Layout tells of `{t}`, which is not there"));
    let mut findings: Vec<_> = untold.chain(gone).collect();
    if declared.is_empty() {
        findings.push("src/lib.rs declares no module".to_owned());
    }
    findings
}

/// Whether a line of a `.gitignore` names `file` itself.
pub(crate) fn ignores(gitignore: &str, file: &str) -> bool {
    gitignore.lines().any(|l| matches!(l.trim().trim_start_matches('/'), l if l == file || l == "*.lock" || l == "*"))
}

/// Dependencies of a manifest that the document does not name as `` `name` ``.
pub(crate) fn dependencies(manifest: &str, document: &str) -> Vec<String> {
    let mut inside = false;
    let mut findings = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).split('.').any(|part| part.ends_with("dependencies"));
            // A table of its own: `[dependencies.tokio]`.
            continue;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        if inside && is_name && name != "lineshaft-client" && !document.contains(&format!("`{name}`")) {
            findings.push(format!("`{name}` has no line in src/docs/adr/0002-dependencies.md"));
        }
    }
    findings.dedup();
    findings
}

/// What a compose file leaves to chance: an image without an exact version, a service that nobody knows to be healthy, a port
/// open to other machines, a service waited for only until it is started.
pub(crate) fn compose(text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let (mut section, mut service, mut has_check) = ("", None::<&str>, false);
    // A last line that begins another section ends the last service.
    for line in text.lines().chain(["end:"]) {
        let depth = line.len() - line.trim_start().len();
        let told = line.trim();
        if told.is_empty() || told.starts_with('#') {
            continue;
        }
        if depth == 0 || (depth == 2 && section == "services:") {
            if let Some(service) = service.take()
                && !has_check
            {
                findings.push(format!("the service {service} has no healthcheck"));
            }
            if depth == 0 {
                section = told;
            } else {
                (service, has_check) = (Some(told.trim_end_matches(':')), false);
            }
        }
        let Some(service) = service else { continue };
        has_check |= told == "healthcheck:";
        if let Some(image) = told.strip_prefix("image:") {
            let version = image.trim().rsplit_once(':').map_or("", |(_, version)| version);
            if version.split('.').filter(|part| part.starts_with(|c: char| c.is_ascii_digit())).count() < 3 {
                findings.push(format!("the image of {service} is not pinned: {}", image.trim()));
            }
        }
        if let Some(port) = told.strip_prefix("- \"")
            && port.trim_end_matches('"').split(':').all(|part| part.parse::<u16>().is_ok())
        {
            findings.push(format!("a port of {service} is open to other machines: {}", port.trim_end_matches('"')));
        }
        if told == "condition: service_started" {
            findings.push(format!("{service} does not wait until what it needs is healthy"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_a_list() {
        let all: Vec<_> = REQUIRED.iter().map(|n| ((*n).to_owned(), FOLDERS.contains(n))).collect();
        assert!(root(&all).is_empty());
        let with = |name: &str, folder| [all.clone(), vec![(name.to_owned(), folder)]].concat();
        assert_eq!(root(&with("scripts", true)).len(), 1);
        assert_eq!(root(&with("notes.md", false)).len(), 1);
        assert_eq!(root(&with("README.md", true)).len(), 1);
        assert_eq!(root(&all[1..]).len(), 1);
    }

    #[test]
    fn declared_and_told_modules_agree() {
        assert!(modules("//! # Layout\n//!\n//! - [`a`], [`b`]: x.\npub mod a;\nmod b;").is_empty());
        assert_eq!(modules("//! # Layout\n//! - [`a`]: x.\npub mod a;\nmod b;").len(), 1);
        assert!(
            modules("//! # Layout\n//! - [`a`]: x.\n//! - `b`: y.\npub mod a;\n#[cfg(feature = \"b\")]\npub mod b;")
                .is_empty()
        );
        assert_eq!(modules("//! # Layout\n//! - [`a`], [`b`]: x.\npub mod a;").len(), 1);
        assert_eq!(modules("//! [`a`]\npub mod a;").len(), 1);
        assert_eq!(modules("//! x").len(), 1);
    }

    #[test]
    fn what_a_compose_file_leaves_to_chance_is_found() {
        let good = "services:\n  a:\n    image: a:1.2.3-x\n    ports:\n      - \"127.0.0.1:1:1\"\n    healthcheck:\n      test: x\nvolumes:\n  v:\n";
        assert_eq!(compose(good), [] as [String; 0]);
        for (from, to) in [
            ("a:1.2.3-x", "a"),
            ("a:1.2.3-x", "a:latest"),
            ("a:1.2.3-x", "a:1"),
            ("127.0.0.1:1:1", "1:1"),
            ("healthcheck:", "# healthcheck:"),
            ("test: x", "test: x\n    depends_on:\n      b:\n        condition: service_started"),
        ] {
            assert_eq!(compose(&good.replace(from, to)).len(), 1, "{to}");
        }
    }

    #[test]
    fn dependencies_without_a_line_are_found() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\n[dev-dependencies]\nc = { version = \"1\" }\n[lints]\nd = 1";
        assert_eq!(dependencies(manifest, "`a` `b` `c`"), [] as [String; 0]);
        assert_eq!(dependencies(manifest, "`a`").len(), 2);
        assert_eq!(dependencies("[workspace.dependencies]\ne = \"1\"", "").len(), 1);
    }

    #[test]
    fn an_ignored_lock_file_is_found() {
        assert!(ignores("target/\n/Cargo.lock\n", "Cargo.lock"));
        assert!(ignores("*.lock", "Cargo.lock"));
        assert!(!ignores("target/", "Cargo.lock"));
    }
}
