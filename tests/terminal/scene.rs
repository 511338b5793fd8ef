//! A server with something to see: tasks that wait, that are delayed and dead, and a worker that holds one.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Options, Process};

/// A server and a worker.
pub struct Scene {
    pub server: Process,
    worker: Option<Child>,
    dir: TempDir,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(worker) = &mut self.worker {
            // An error says that it has ended already.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

impl Scene {
    /// A server alone.
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Process::start(&dir.path().join("data"), options());
        Self { server, worker: None, dir }
    }

    /// `media` with a task that is held, three that wait (for the one slot of `painter`), one delayed and one dead;
    /// `mail` with two that wait for nobody.
    pub fn full() -> Self {
        let mut scene = Self::empty();
        let begun = scene.dir.path().join("begun");
        // It ends when the directory is removed, should nobody else end it.
        let begun_at = begun.display();
        let wait = format!("touch {begun_at}; while [ -e {begun_at} ]; do sleep 0.1; done");
        let script = format!("read args; case $args in *doomed*) exit 65;; esac; {wait}");
        scene.work(&[], &script);
        let doomed = scene.run(&["send", "paint", "doomed", "--queue", "media", "--wait"]);
        assert_eq!(doomed.status.code(), Some(1), "{doomed:?}");
        for argument in ["one", "two", "three", "four"] {
            scene.sent(&["send", "paint", argument, "--queue", "media"]);
        }
        scene.sent(&["send", "paint", "later", "--queue", "media", "--delay", "1h"]);
        scene.sent(&["send", "post", "letter", "--queue", "mail"]);
        scene.sent(&["send", "post", "parcel", "--queue", "mail"]);
        scene.until(&begun);
        scene
    }

    /// Starts `painter`, which runs a script for each task `paint` of the queue `media`.
    pub fn work(&mut self, options: &[&str], script: &str) {
        let url = self.server.url();
        let work = ["work", "--task", "paint", "--queue", "media", "--name", "painter", "--server", &url];
        let worker = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
            .args([&work, options, &["--", "/bin/sh", "-c", script]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.worker = Some(worker.unwrap());
    }

    /// A directory that is gone at the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    // Each look takes a while of its own, so nothing is slept between.
    fn until(&self, begun: &Path) {
        while !begun.exists() || self.queue("media")["leased"] != 1 {}
    }

    /// Runs a command against the server.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let url = self.server.url();
        let output = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
            .args([arguments, &["--server", &url]].concat())
            .env_remove("COLUMNS")
            .output();
        output.unwrap()
    }

    fn sent(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
    }

    /// A queue, as `queues --json` tells of it.
    pub fn queue(&self, name: &str) -> Value {
        let output = self.run(&["queues", name, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn options() -> Options {
    Options::default().env("LINESHAFT_LEASES_KEEP_FAILED", "true")
}
