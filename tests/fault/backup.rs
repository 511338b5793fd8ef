//! A backup taken under load, and the server that is made of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::{GetStatesRequest, TaskStatus};

use super::checker::{self, Life};
use super::processes::{Program, Server, until};

const DONE_MAX: Duration = Duration::from_secs(60);
const TASKS: usize = 1500;

fn lineshaft(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineshaft")).args(args).output().expect("the program starts")
}

fn succeeds(args: &[&str]) {
    let output = lineshaft(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn states(server: &Server, ids: &[String]) -> Vec<TaskStatus> {
    let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
    let mut found = Vec::new();
    for ids in ids.chunks(1000) {
        let request = GetStatesRequest { task_ids: ids.to_vec() };
        let answer = tasks.get_states(request).await.expect("are read").into_inner();
        found.extend(answer.states.iter().map(|state| state.status()));
    }
    found
}

#[test]
fn what_was_accepted_before_a_backup_is_in_the_server_restored_from_it() {
    let mut server = Server::start(&[]);
    let mut producer = Program::producer(&server, "sent", TASKS as u64);
    let mut worker = Program::worker(&server, "worker", 8);
    until("half the tasks", DONE_MAX, || (checker::count(&producer.file, "accepted") > TASKS / 2).then_some(()));
    let before = checker::accepted(&[&producer.file]);
    let folder = tempfile::tempdir().expect("a directory");
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (file, data) = (text("backup"), text("data"));
    succeeds(&["backup", "--server", &server.url(), "--to", &file]);
    // It replaces nothing.
    assert_eq!(lineshaft(&["backup", "--server", &server.url(), "--to", &file]).status.code(), Some(2));
    until("more tasks", DONE_MAX, || (checker::count(&producer.file, "accepted") > before.len() + 20).then_some(()));
    producer.kill();
    worker.kill();
    server.kill();

    succeeds(&["restore", "--from", &file, "--data-dir", &data]);
    // Nor does a restore.
    assert_eq!(lineshaft(&["restore", "--from", &file, "--data-dir", &data]).status.code(), Some(6));
    let own = tempfile::tempdir().expect("a directory");
    let restored = Server::start_in(own, Path::new(&data).to_owned(), &[], &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let found = runtime.block_on(states(&restored, &before));
    let missing = found.iter().filter(|status| **status == TaskStatus::Unspecified).count();
    assert_eq!(missing, 0, "of {} accepted before the backup", before.len());
    // What had not ended runs to its end.
    let second = Program::worker(&restored, "second", 8);
    until("the ends", DONE_MAX, || {
        let found = runtime.block_on(states(&restored, &before));
        found.iter().all(|status| *status == TaskStatus::Success).then_some(())
    });
    let findings = checker::check(&[Life { file: &second.file, killed_at: None }]);
    assert!(findings.ended_twice.is_empty() && findings.overlapped.is_empty(), "{findings:?}");
    // Tokens go on above those of the first server, also of leases that it gave after the backup.
    let (old, new) = (tokens(&worker.file), tokens(&second.file));
    assert!(old.last() < new.first(), "{:?} {:?}", old.last(), new.first());
}

/// The fencing tokens of the leases in a witness file.
fn tokens(file: &Path) -> BTreeSet<u64> {
    let text = std::fs::read_to_string(file).expect("it is there");
    // A lease is `TOKEN-MESSAGE`, the token in hexadecimal, and the last word of its line.
    let token = |line: &str| u64::from_str_radix(line.split(' ').nth(3)?.split('-').next()?, 16).ok();
    text.lines().filter(|line| line.contains(" start ")).filter_map(token).collect()
}
