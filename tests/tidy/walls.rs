//! Who may touch what: `ARCHITECTURE.md`, "Boundaries", as a table.

use super::source::{self, Named};

/// The seams: each has a `mod.rs` of traits and types, and rooms that implement them.
const SEAMS: [&str; 4] = ["broker", "ledger", "backend", "fused"];
/// Names of rooms.
const ROOMS: [&str; 8] = ["memory", "embedded", "redis", "amqp", "sqs", "mongodb", "memcached", "null"];
/// What everyone may use: time, the vocabulary of failure, nouns.
const COMMON: [&str; 4] = ["clock", "error", "task", "failpoint"];

/// Libraries that carry a protocol or a store, and where they may be named. Everything else stays free of them.
const LIBRARIES: [(&str, &[&str]); 15] = [
    ("tonic", &["api", "cli", "server"]),
    ("tonic_health", &["api", "cli", "server"]),
    ("tonic_reflection", &["api", "server"]),
    ("tonic_types", &["api", "cli", "server"]),
    ("axum", &["api", "server"]),
    ("hyper", &["api", "server"]),
    ("lineshaft_client", &["api", "cli"]),
    ("redb", &["engine"]),
    ("redis", &["link::redis", "broker::redis", "ledger::redis", "backend::redis", "fused::redis"]),
    ("lapin", &["broker::amqp", "backend::amqp"]),
    ("aws_sdk_sqs", &["broker::sqs"]),
    ("mongodb", &["backend::mongodb"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
];

/// Reasons why files of `src/` name what they may not.
pub(crate) fn check(sources: &[(String, String)]) -> Vec<String> {
    let mut findings = Vec::new();
    let codes: Vec<_> =
        sources.iter().map(|(name, text)| (name, source::module_of(name), source::code(text))).collect();
    let tests: Vec<Vec<String>> = codes
        .iter()
        .flat_map(|(_, module, code)| {
            source::test_modules(code).into_iter().map(|m| module.iter().cloned().chain([m]).collect())
        })
        .collect();
    for (name, module, code) in &codes {
        // A file that only tests see may join rooms to try them.
        if tests.iter().any(|t| module.starts_with(t)) {
            continue;
        }
        let mut last = String::new();
        for Named { line, path } in source::paths(&source::without_tests(code), module) {
            if let Err(why) = may(module, &path) {
                let finding = format!("{name}:{line}: {}: {why}", path.join("::"));
                if finding != last {
                    findings.push(finding.clone());
                }
                last = finding;
            }
        }
    }
    findings
}

/// A place in the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    /// A module of its own, or a seam's traits and types.
    Module(&'a str),
    /// A room of a seam.
    Room(&'a str, &'a str),
    /// Where everything is put together.
    Assembly,
}

fn place(module: &[String]) -> Place<'_> {
    match module.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The last measures the engine alone.
        []
        | ["server", ..]
        | ["cli"]
        | ["cli", "serve" | "config" | "doctor" | "restore", ..]
        | ["cli", "bench", "commit"] => Place::Assembly,
        [seam, room, ..] if SEAMS.contains(&seam) && ROOMS.contains(&room) => Place::Room(seam, room),
        [first, ..] => Place::Module(module.first().map_or(first, String::as_str)),
    }
}

fn may(from: &[String], path: &[String]) -> Result<(), String> {
    let place_from = place(from);
    let Some((root, to)) = path.split_first() else { return Ok(()) };
    if root != "crate" {
        return library(from, root);
    }
    if place_from == Place::Assembly || to.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = to.iter().map(String::as_str).collect();
    let allowed = match (place_from, place(to)) {
        (_, Place::Assembly) => match named[0] {
            "cli" => place_from == Place::Module("cli"),
            _ => false,
        },
        (here, there) if here == there => true,
        // A room is part of its seam.
        (Place::Room(seam, _), Place::Module(module)) if seam == module => true,
        (from, Place::Module(to)) => module(from, to, &named),
        (Place::Room("fused", room), Place::Room(_, other)) => room == other,
        (_, Place::Room(..)) => false,
    };
    if allowed { Ok(()) } else { Err(format!("{} may not touch this", from.join("::"))) }
}

/// Whether a place may name something of a module that is not its own.
fn module(from: Place<'_>, to: &str, named: &[&str]) -> bool {
    match from {
        Place::Assembly => true,
        // Nouns and bytes: no IO, no clock but the type of its readings.
        Place::Module("task" | "wire") => to == "task" || named == ["clock", "WallTime"],
        Place::Module("clock" | "error" | "failpoint") => false,
        // Knows records, not tasks.
        Place::Module("engine" | "link") => matches!(to, "clock" | "error" | "failpoint" | "telemetry"),
        Place::Module("broker") => COMMON.contains(&to),
        Place::Module("backend") => COMMON.contains(&to),
        // A decision names the messages and states that follow from it.
        Place::Module("ledger") => COMMON.contains(&to) || matches!(to, "broker" | "backend"),
        Place::Module("fused") => COMMON.contains(&to) || SEAMS.contains(&to),
        // Opaque bytes in, opaque bytes out: never another room, nor those who know what the bytes mean.
        Place::Room(seam, room) => {
            COMMON.contains(&to)
                || to == "telemetry"
                || (to == "engine" && room == "embedded")
                || (to == "link" && named.get(1) == Some(&room))
                // What Machinery programs can see is in its format.
                || (to == "wire" && seam == "backend" && !matches!(room, "memory" | "embedded"))
                || (seam == "ledger" && matches!(to, "broker" | "backend"))
                || (seam == "fused" && SEAMS.contains(&to))
        }
        // All policy. Sees stores only as traits: their rooms are `Place::Room` and so refused.
        Place::Module("service") => COMMON.contains(&to) || SEAMS.contains(&to) || matches!(to, "wire" | "telemetry"),
        // Translates. Types of a seam pass through it, never the store itself.
        Place::Module("api") => {
            let store =
                matches!(named.get(1), Some(&("Broker" | "Ledger" | "Backend" | "Fused" | "Inspect" | "Recall" | "*")));
            COMMON.contains(&to)
                || matches!(to, "service" | "wire" | "telemetry")
                || (SEAMS.contains(&to) && named.len() > 1 && !store)
        }
        // Fills the settings of those it configures.
        Place::Module("config") => COMMON.contains(&to) || matches!(to, "service" | "telemetry" | "api" | "link"),
        Place::Module("telemetry") => COMMON.contains(&to) || SEAMS.contains(&to) || to == "config",
        // Stands on the Rust client, as any program does; reads spans of time as the configuration does.
        Place::Module("cli") => matches!(to, "clock" | "telemetry" | "task") || named == ["config", "Span"],
        Place::Module("docs") => false,
        Place::Module(_) => false,
    }
}

fn library(from: &[String], root: &str) -> Result<(), String> {
    let Some((_, places)) = LIBRARIES.iter().find(|(name, _)| *name == root) else { return Ok(()) };
    let here = from.join("::");
    if from.is_empty() || places.iter().any(|p| here == *p || here.starts_with(&format!("{p}::"))) {
        Ok(())
    } else {
        Err(format!("{here} may not use this library; it belongs to {}", places.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> usize {
        check(&[(name.to_owned(), text.to_owned())]).len()
    }

    #[test]
    fn each_wall_lets_through_what_it_may_and_stops_what_it_must() {
        for (name, good, bad) in [
            ("src/task/id.rs", "use super::time;", "use crate::error::Error;"),
            ("src/task/time.rs", "use crate::clock::WallTime;", "use crate::clock::Clock;"),
            ("src/wire/machinery/read.rs", "use crate::task::Arg;", "use crate::broker::NewTask;"),
            (
                "src/broker/redis/client.rs",
                "use crate::broker::{Broker, NewTask}; use super::layout;",
                "use crate::broker::embedded::open;",
            ),
            ("src/broker/redis/client.rs", "use redis::Client;", "use crate::wire::machinery;"),
            ("src/broker/redis/client.rs", "use crate::task::TaskId;", "use super::super::memory::Broker;"),
            ("src/broker/embedded/mod.rs", "use crate::engine::Engine;", "use crate::ledger::Lease;"),
            ("src/broker/redis/mod.rs", "use crate::clock::Clock;", "use crate::engine::Engine;"),
            ("src/broker/mod.rs", "pub mod redis;", "use crate::ledger::Lease;"),
            ("src/ledger/embedded/mod.rs", "use crate::broker::NewTask;", "use crate::broker::embedded::Room;"),
            ("src/fused/embedded.rs", "use crate::ledger::embedded::decide_in;", "use crate::ledger::redis::decide;"),
            ("src/service/settle.rs", "use crate::ledger::Ledger;", "use crate::ledger::memory::Ledger;"),
            ("src/service/settle.rs", "use crate::wire::machinery;", "use tonic::Status;"),
            ("src/service/mod.rs", "use types::*;", "use crate::api::status;"),
            (
                "src/api/worker.rs",
                "use crate::ledger::{Lease, Verdict}; use tonic::Status;",
                "use crate::ledger::Ledger;",
            ),
            ("src/api/queue.rs", "use crate::service::Service;", "let b: Arc<dyn crate::broker::Broker>;"),
            ("src/api/queue.rs", "use crate::task::TaskId;", "use crate::broker;"),
            ("src/engine/mod.rs", "use redb::Database; use crate::error::StoreError;", "use crate::task::TaskId;"),
            ("src/backend/memory.rs", "use crate::backend::StateWrite;", "use redb::Database;"),
            (
                "src/cli/send.rs",
                "use lineshaft_client::Client; use crate::cli::output;",
                "use crate::service::Service;",
            ),
            ("src/cli/send.rs", "use super::output;", "use crate::server::Server;"),
            ("src/somewhere/mod.rs", "use std::fmt;", "use crate::task::TaskId;"),
        ] {
            assert_eq!(findings(name, good), 0, "{name}: {good}");
            assert_eq!(findings(name, bad), 1, "{name}: {bad}");
        }
    }

    #[test]
    fn the_assembly_and_tests_may_join_everything() {
        for name in ["src/main.rs", "src/lib.rs", "src/server.rs", "src/cli/mod.rs", "src/cli/serve.rs"] {
            assert_eq!(
                findings(name, "use crate::{broker::embedded, ledger::embedded, service::Service}; use tonic::x;"),
                0,
                "{name}"
            );
        }
        let inline = "#[cfg(test)] mod tests { use crate::broker::memory; }";
        assert_eq!(findings("src/service/mod.rs", inline), 0);
        let apart = [
            ("src/service/mod.rs".to_owned(), "#[cfg(test)] mod tests;".to_owned()),
            ("src/service/tests.rs".to_owned(), "use crate::broker::memory;".to_owned()),
        ];
        assert_eq!(check(&apart), [] as [String; 0]);
        assert_eq!(findings("src/service/tests.rs", "use crate::broker::memory;"), 1);
    }

    #[test]
    fn what_comments_and_strings_say_is_no_use() {
        assert_eq!(findings("src/task/id.rs", "// crate::service::Service\nlet x = \"crate::service::Service\";"), 0);
    }
}
