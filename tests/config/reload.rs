//! A configuration that changes while the server works.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lineshaft_client::proto::server_service_client::ServerServiceClient;
use lineshaft_client::proto::{GetServerInfoRequest, Limits};
use lineshaft_client::{Client, Failure, Task, Worker};
use rustix::process::Signal;

use crate::support::{Options, Process, until};

/// How many tasks decide what share a queue has.
const SAMPLE: u64 = 400;

fn write(file: &Path, store: &Path, more: &str) {
    // Renamed into place, as mounted configurations are: the server never reads half a file.
    let next = file.with_extension("next");
    std::fs::write(&next, format!("broker: 'embedded:{}'\n{more}", store.display())).unwrap();
    std::fs::rename(next, file).unwrap();
}

async fn limits(server: &Process) -> Limits {
    let mut client = ServerServiceClient::connect(server.url()).await.unwrap();
    client.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner().limits.unwrap()
}

async fn logged(server: &Process, times: usize, text: &str) {
    until(text, async || (server.log().matches(text).count() >= times).then_some(())).await;
}

/// The share of queue `a` among the next tasks that run, in percent.
async fn share(ran: &[AtomicU64; 2]) -> u64 {
    let count = || ran.each_ref().map(|n| n.load(Ordering::Relaxed));
    let before = count();
    let [a, b] = until("enough tasks", async || {
        let now = count();
        let [a, b] = [now[0] - before[0], now[1] - before[1]];
        (a + b >= SAMPLE).then_some([a, b])
    })
    .await;
    100 * a / (a + b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_changes_level_limit_and_weight_and_no_call_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (file, store) = (dir.path().join("config.yml"), dir.path().join("data"));
    write(&file, &store, "log:\n  level: info\nlimits:\n  sends_in_flight_max: 1000\n");
    let options = Options::default().arg("--config").arg(file.to_str().unwrap()).arg("--reload");
    let server = Process::start(&store, options);

    // The load: both queues always have more than the worker takes.
    let stop = Arc::new(AtomicBool::new(false));
    let client = Client::connect(server.url()).await.unwrap();
    let ran: Arc<[AtomicU64; 2]> = Arc::default();
    let sent: Arc<[AtomicU64; 2]> = Arc::default();
    let mut load = Vec::new();
    for (queue, name) in ["a", "b", "a", "b"].into_iter().enumerate() {
        let (stop, client, ran, sent) = (stop.clone(), client.clone(), ran.clone(), sent.clone());
        load.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let ahead = sent[queue % 2].load(Ordering::Relaxed) - ran[queue % 2].load(Ordering::Relaxed);
                if ahead > 2000 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    continue;
                }
                let tasks: Vec<Task> = (0..20).map(|_| Task::new("count").queue(name)).collect();
                for sent in client.send_all(tasks).await {
                    sent.expect("a task is sent");
                }
                sent[queue % 2].fetch_add(20, Ordering::Relaxed);
            }
        }));
    }
    let counted = ran.clone();
    let worker = Worker::builder(server.url())
        .queue("a")
        .queue("b")
        .concurrency(4)
        .prefetch(4)
        .register("count", move |context: lineshaft_client::Context| {
            counted[usize::from(context.queue() == "b")].fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, Failure>(()) }
        })
        .build()
        .unwrap();
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());
    let even = async || {
        let share = share(&ran).await;
        (35..=65).contains(&share).then_some(())
    };
    until("equal shares", even).await;
    assert!(!server.log().contains("DEBUG"));
    assert_eq!(limits(&server).await.session_leases_max, 10_000);

    // A level, limits, a weight; and a key that needs a restart.
    let changed = "log:\n  level: info,h2=debug\nlimits:\n  session_leases_max: 50\n  sends_in_flight_max: 500\n  batch_max: 20\n\
                   queues:\n  a:\n    weight: 9\nserver:\n  connection_streams_max: 500\nresult_backend: 'embedded:";
    write(&file, &store, &format!("{changed}{}'\nresults_expire_in: 60\n", store.display()));
    server.signal(Signal::HUP);
    logged(&server, 1, "configuration read again").await;
    let now = limits(&server).await;
    assert_eq!((now.session_leases_max, now.batch_max), (50, 20));
    logged(&server, 1, "DEBUG").await;
    until("a share of nine in ten", async || (share(&ran).await >= 80).then_some(())).await;
    let log = server.log();
    for key in ["log.level", "limits.session_leases_max", "queues.a.weight", "results_expire_in"] {
        let line = log.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{key} is not told"));
        assert!(line.contains("configuration changed") && !line.contains("next start"), "{line}");
    }
    let line = log.lines().find(|line| line.contains("server.connection_streams_max")).unwrap();
    assert!(line.contains("in force after the next start"), "{line}");

    // A broken file changes nothing, however often it is read.
    write(&file, &store, "log:\n  level: loud!\nlimits:\n  session_leases_max: 0\nqueues:\n  a:\n    weight: 1\n");
    server.signal(Signal::HUP);
    logged(&server, 1, "the configuration is not changed").await;
    server.signal(Signal::HUP);
    logged(&server, 2, "the configuration is not changed").await;
    std::fs::remove_file(&file).unwrap();
    server.signal(Signal::HUP);
    logged(&server, 3, "the configuration is not changed").await;
    assert_eq!(limits(&server).await.session_leases_max, 50);
    assert!(share(&ran).await >= 70);

    // Without a signal it is found by looking.
    write(&file, &store, "log:\n  level: info\n");
    until("the old limit", async || (limits(&server).await.session_leases_max == 10_000).then_some(())).await;
    until("equal shares again", even).await;

    stop.store(true, Ordering::Relaxed);
    for sender in load {
        sender.await.expect("no send has failed");
    }
    let all = || sent.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>();
    until("every task", async || (ran.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>() >= all()).then_some(()))
        .await;
    assert_eq!(ran.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>(), all(), "no task ran twice");
    stopper.stop();
    working.await.unwrap().expect("the worker never lost its session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_changes_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let (file, store) = (dir.path().join("config.yml"), dir.path().join("data"));
    write(&file, &store, "lock: redis://:first-secret@h\n");
    let options = Options::default().arg("--config").arg(file.to_str().unwrap()).arg("--reload");
    let server = Process::start(&store, options);
    write(&file, &store, "lock: redis://:second-secret@h\n");
    server.signal(Signal::HUP);
    logged(&server, 1, "configuration read again").await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("configuration changed")).unwrap();
    assert!(line.contains("lock") && line.contains("[redacted]"), "{line}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn looks_are_counted_and_a_broken_file_once() {
    use lineshaft::config::Sources;
    use lineshaft::config::reload::{Look, Reloader, counts};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    std::fs::write(&file, "leases:\n  lost_max: 4\n").unwrap();
    let (mut reloader, loaded) = Reloader::start(Sources { file: Some(file.clone()), ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.leases.lost_max, 4);
    assert!(matches!(reloader.look(false), Look::Same));
    std::fs::write(&file, "leases:\n  lost_max: many\n").unwrap();
    assert!(matches!(reloader.look(false), Look::Refused(_)));
    assert!(matches!(reloader.look(false), Look::Same));
    assert!(matches!(reloader.look(true), Look::Refused(_)));
    assert_eq!((counts().applied(), counts().refused()), (0, 2));
    std::fs::write(&file, "leases: {lost_max: 5}\nserver:\n  data_dir: e\n").unwrap();
    let Look::Changed { config, differences, .. } = reloader.look(false) else { panic!("nothing was seen") };
    assert_eq!(config.leases.lost_max, 5);
    let told: Vec<_> =
        differences.iter().map(|d| (d.key.as_str(), d.from.as_deref(), d.to.as_deref(), d.is_live)).collect();
    assert_eq!(
        told,
        [
            ("leases.lost_max", Some("4"), Some("5"), true),
            ("server.data_dir", Some("./lineshaft-data"), Some("e"), false)
        ]
    );
    assert_eq!(counts().applied(), 1);
}
