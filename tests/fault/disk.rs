//! A disk without room, and a directory that cannot be written: sends are refused in so many words, what runs is reported
//! once there is room, and nothing is lost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lineshaft_client::proto::queue_service_client::QueueServiceClient;
use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::{Arg, GetPendingTasksRequest, GetStateRequest, SendTaskRequest, Task, TaskStatus, arg};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::checker::{self, Life};
use super::processes::{Program, Server, until};

/// Room for the store of these tests, bytes: some hundred tasks of the largest kind here.
const ROOM_BYTES: u64 = 24 << 20;
const DONE_MAX: Duration = Duration::from_secs(60);

/// What keeps a store small, until it does not.
enum Bound {
    /// A file system of its own, filled up but for [`ROOM_BYTES`].
    Mount { at: PathBuf },
    /// The length that a file of the server may have.
    Length,
}

impl Bound {
    /// A small file system; `None` where this user may not mount one.
    fn mount(dir: &Path) -> Option<Self> {
        let at = dir.join("small");
        std::fs::create_dir(&at).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={}", 4 * ROOM_BYTES), "none"]).arg(&at);
        if !mount.output().is_ok_and(|done| done.status.success()) {
            return None;
        }
        let ballast = usize::try_from(3 * ROOM_BYTES).expect("fits");
        std::fs::write(at.join("ballast"), vec![1; ballast]).expect("there is room for it");
        Some(Self::Mount { at })
    }

    fn start(&self, dir: tempfile::TempDir) -> Server {
        match self {
            Self::Mount { at } => Server::start_in(dir, at.join("data"), &[], &[]),
            Self::Length => {
                let data = dir.path().join("data");
                // A soft limit can be raised again. Without the trap a file that is too long would end the process.
                let limited = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", ROOM_BYTES / 512);
                Server::start_in(dir, data, &["sh", "-c", &limited, "sh"], &[])
            }
        }
    }

    fn make_room(&self, server: &Server) {
        match self {
            Self::Mount { at } => std::fs::remove_file(at.join("ballast")).expect("it is there"),
            Self::Length => {
                let current = getrlimit(Resource::Fsize).maximum;
                prlimit(Some(server.pid()), Resource::Fsize, Rlimit { current, maximum: current })
                    .expect("a soft limit may be raised");
            }
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Mount { at } = self {
            // Lazily: a server that is being ended may still hold it.
            let _ = Command::new("umount").arg("-l").arg(at).status();
        }
    }
}

fn task(id: String, bytes: usize) -> SendTaskRequest {
    let text = Arg { value: Some(arg::Value::StringValue("x".repeat(bytes))), ..Arg::default() };
    let task = Task { id, name: "fill".to_owned(), queue: "fill".to_owned(), args: vec![text], ..Task::default() };
    SendTaskRequest { task: Some(task) }
}

fn assert_full(status: &Status) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    assert_eq!((status.code(), reason), (Code::ResourceExhausted, Some("STORE_FULL")), "{status:?}");
    assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{status:?}");
    assert!(status.message().contains("full"), "{status:?}");
}

/// Sends ever smaller tasks until not even the smallest is taken; answers the ids of those that were.
async fn fill(tasks: &mut TaskServiceClient<Channel>, round: &str) -> Vec<String> {
    let mut accepted = Vec::new();
    for bytes in [200 << 10, 20 << 10, 100] {
        for number in 0..100_000 {
            let id = format!("{round}-{bytes}-{number}");
            match tasks.send_task(task(id.clone(), bytes)).await {
                Ok(_) => accepted.push(id),
                Err(status) => {
                    assert_full(&status);
                    break;
                }
            }
        }
    }
    accepted
}

async fn waiting(channel: &Channel) -> Vec<String> {
    let mut queues = QueueServiceClient::new(channel.clone());
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let queue = "fill".to_owned();
        let request = GetPendingTasksRequest { queue, page_token, page_size: 1000, include_delayed: true };
        let page = queues.get_pending_tasks(request).await.expect("a page below 4 MiB").into_inner();
        ids.extend(page.tasks.into_iter().map(|pending| pending.task.expect("a task").id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

fn run(bound: &Bound, dir: tempfile::TempDir) {
    let mut server = bound.start(dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let worker = Program::worker(&server, "worker", 1);
    let mut accepted = runtime.block_on(async {
        let client = lineshaft_client::Client::connect(server.url()).await.expect("the server answers");
        let long = lineshaft_client::Task::new("work").id("long").queue("fault").arg(3_000i64);
        client.send(long).await.expect("is accepted");
        until("the start", DONE_MAX, || (checker::count(&worker.file, "start") > 0).then_some(()));
        let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
        let accepted = fill(&mut tasks, "first").await;
        assert!(accepted.len() > 10, "{}", accepted.len());
        // Looking needs no room.
        let state = tasks.get_state(GetStateRequest { task_id: accepted[0].clone() }).await.expect("can be read");
        assert_eq!(state.into_inner().state.expect("is set").status(), TaskStatus::Pending);
        accepted
    });
    // A crash now: the next life can be asked, and refuses until there is room.
    server.kill();
    server.life(&[]);
    runtime.block_on(async {
        let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
        let state = tasks.get_state(GetStateRequest { task_id: accepted[0].clone() }).await.expect("can be read");
        assert_eq!(state.into_inner().state.expect("is set").status(), TaskStatus::Pending);
        accepted.extend(fill(&mut tasks, "second").await);
    });
    // The end comes while there is no room; it is reported for as long as it takes.
    until("the end", DONE_MAX, || (checker::count(&worker.file, "end") > 0).then_some(()));
    bound.make_room(&server);
    until("the verdict", DONE_MAX, || (checker::count(&worker.file, "verdict:Recorded") > 0).then_some(()));
    runtime.block_on(async {
        let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
        tasks.send_task(task("after".to_owned(), 100)).await.expect("is accepted again");
    });
    accepted.push("after".to_owned());
    // Everything that was answered is on the disk, and nothing that was refused.
    server.kill();
    server.life(&[]);
    let mut found = runtime.block_on(async {
        let channel = Channel::from_shared(server.url()).expect("an address").connect().await.expect("it answers");
        waiting(&channel).await
    });
    accepted.sort_unstable();
    found.sort_unstable();
    assert!(accepted == found, "{} accepted, {} found", accepted.len(), found.len());
    let findings = checker::check(&[Life { file: &worker.file, killed_at: None }]);
    assert_eq!((findings.begun, findings.again), (1, 0), "{findings:?}");
}

#[test]
fn a_full_file_system_refuses_sends_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    match Bound::mount(dir.path()) {
        Some(bound) => run(&bound, dir),
        None => {
            println!("skipped: this user may not mount a small file system; the limit of a length is tried instead")
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    // A file where the directory should be: refused to every user, root included.
    let data = dir.path().join("data");
    std::fs::write(&data, b"a letter").expect("can be written");
    let serve = |data: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineshaft"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).output().expect("it starts")
    };
    let refused = |data: &Path| {
        let output = serve(data);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("{:?}", data).trim_matches('"').to_owned()), "{told}");
        told
    };
    refused(&data);
    assert_eq!(std::fs::read(&data).expect("it is there"), b"a letter");
    // Read-only as a whole, where this user may mount.
    let Some(bound) = Bound::mount(dir.path()) else { return };
    let Bound::Mount { at } = &bound else { return };
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(at).status().expect("it starts");
    assert!(remounted.success());
    let told = refused(&at.join("data"));
    assert!(told.contains("Read-only file system"), "{told}");
}

#[test]
fn a_file_at_its_greatest_length_refuses_sends_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    run(&Bound::Length, dir);
}
