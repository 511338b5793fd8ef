//! `demo`: the whole of it in ten seconds, on this machine, with nothing installed.
//!
//! A server and two workers, each in a process of its own; tasks that end in every way there is; then the worker and
//! the server are killed in mid-task. Everything that is told was observed from outside, through the public API and the
//! workers' own words, and compared with what was expected.

use std::time::Duration;

use lineshaft_client::Task;
use lineshaft_client::proto::TaskStatus;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

pub mod account;
pub mod expect;
pub mod process;
pub mod stage;
pub mod worker;

use super::{Exit, Failure, output};
use account::Account;
use process::{Process, Scratch};
use stage::{Plan, Stage, Way};

/// See it work: a server, two workers, tasks that succeed, retry, fail and wait, and what a kill -9 does to them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes:\n  0  everything went as expected\n  1  something did not, and is named\n  6  the demo could not be played"
)]
pub struct Command {
    /// Print JSON, one object a line, for programs.
    #[arg(long)]
    json: bool,
    /// Leave out the scenes in which processes are killed.
    #[arg(long)]
    no_kill: bool,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let account = Account::new(self.json);
        let end = tokio::select! {
            end = self.play(account.clone()) => end,
            // Dropping the play kills its processes and removes their directory.
            () = asked_to_stop() => Err(Failure::new(Exit::Other, "interrupted")),
        };
        output::finish(end, self.json)
    }

    async fn play(&self, account: Account) -> Result<Exit, Failure> {
        // Declared first, so that it is dropped last: after the processes that live in it.
        let scratch = Scratch::new()?;
        account.explain("One server, two workers, each a process of its own; the data directory is the only store.");
        let (mut server, url) = process::serve(&scratch, "127.0.0.1:0").await?;
        account.tell(
            "server",
            "started",
            &format!("listens on {url} (pid {}), data in {}", server.pid(), scratch.data().display()),
            [("url", url.clone().into()), ("pid", server.pid().into())],
        );
        let mut stage = Stage::new(account.clone(), &url).await?;
        let mut workers = Vec::new();
        for name in ["worker-1", "worker-2"] {
            let worker = process::work(&scratch, name, &url, &account, &stage.runs)?;
            account.tell(name, "started", &format!("starts (pid {})", worker.pid()), [("pid", worker.pid().into())]);
            workers.push(worker);
        }

        tasks_end_in_every_way(&mut stage).await?;
        if !self.no_kill {
            a_worker_is_killed(&mut stage, &mut workers).await?;
            server = the_server_is_killed(&mut stage, &scratch, server, &url).await?;
        }

        account.heading("Everything stops when asked to");
        for process in workers.iter_mut().chain([&mut server]) {
            process.stop().await?;
            account.tell(process.name(), "stopped", "stopped, exit code 0", []);
        }
        let good = stage.is_good();
        if self.json {
            account.tell("demo", "finished", "", [("as_expected", good.into())]);
        } else {
            let text =
                if good { "Everything went as expected." } else { "Not everything went as expected; see above." };
            account.print(&format!("\n{}", account.verdict(good, text)));
        }
        Ok(if good { Exit::Ok } else { Exit::TaskFailed })
    }
}

// Ctrl-C or SIGTERM; never, where the system refuses to tell.
pub(in crate::cli) async fn asked_to_stop() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

async fn tasks_end_in_every_way(stage: &mut Stage) -> Result<(), Failure> {
    stage.account.heading("1. Tasks are sent, leased by workers, worked, and their results read back");
    let (second, account) = (Duration::from_secs(1), "4711");
    let plans = [
        Plan::good("add", "a result", Task::new("add").arg(1i64).arg(2i64), &[json!(3)]),
        Plan::good("divide", "several results", Task::new("divide").arg(17i64).arg(5i64), &[json!(3), json!(2)]),
        Plan {
            way: Way::Call,
            ..Plan::good("plain", "a plain gRPC call", Task::new("greet").arg("Grace"), &[json!("hello Grace")])
        },
        Plan {
            runs: (3, 3),
            ..Plan::good(
                "flaky",
                "retries after 1 s and 2 s",
                Task::new("flaky").retry(2),
                &[json!("third time lucky")],
            )
        },
        Plan {
            status: TaskStatus::Failure,
            ..Plan::good("doomed", "fails for good", Task::new("doomed").arg(account).retry(5), &[json!(account)])
        },
        Plan {
            not_before: 1.9,
            ..Plan::good(
                "later",
                "an ETA 2 s ahead",
                Task::new("greet").arg("Ada").delay(2 * second),
                &[json!("hello Ada")],
            )
        },
    ];
    for plan in plans {
        stage.send(plan).await?;
    }
    stage.settle().await
}

async fn a_worker_is_killed(stage: &mut Stage, workers: &mut Vec<Process>) -> Result<(), Failure> {
    stage.account.heading("2. A worker is killed in mid-task");
    let slow = Plan {
        runs: (2, 2),
        ..Plan::good("slow", "its worker dies", Task::new("slow").arg(700u64), &[json!("done after 700 ms")])
    };
    let id = stage.send(slow).await?;
    let victim = stage.worker_of(&id).await?;
    if let Some(at) = workers.iter().position(|worker| worker.name() == victim) {
        let mut worker = workers.swap_remove(at);
        let pid = worker.pid();
        worker.kill().await;
        stage.account.tell(&victim, "killed", &format!("kill -9 {pid}; its lease ends in 2 s"), [("pid", pid.into())]);
    }
    stage.settle().await
}

async fn the_server_is_killed(
    stage: &mut Stage,
    scratch: &Scratch,
    mut server: Process,
    url: &str,
) -> Result<Process, Failure> {
    stage.account.heading("3. The server is killed, with one task running and others waiting");
    let slow = Plan::good(
        "survivor",
        "runs once, its worker keeps the lease",
        Task::new("slow").arg(1500u64),
        &[json!("done after 1500 ms")],
    );
    let id = stage.send(slow).await?;
    for (label, a) in [("waiter-1", 10i64), ("waiter-2", 20), ("waiter-3", 30)] {
        let delayed = Task::new("add").arg(a).arg(1i64).delay(Duration::from_secs(1));
        stage.send(Plan::good(label, "waits while the server is gone", delayed, &[json!(a + 1)])).await?;
    }
    stage.worker_of(&id).await?;
    let pid = server.pid();
    server.kill().await;
    stage.account.tell("server", "killed", &format!("kill -9 {pid}"), [("pid", pid.into())]);
    let listen = url.trim_start_matches("http://");
    let (server, url) = process::serve(scratch, listen).await?;
    stage.account.tell(
        "server",
        "started",
        &format!("starts again on the same data directory (pid {})", server.pid()),
        [("url", url.into()), ("pid", server.pid().into())],
    );
    stage.settle().await?;
    Ok(server)
}
