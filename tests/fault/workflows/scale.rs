//! A large group, on both stores: what sending and ending it takes, and what the server takes meanwhile. `LINESHAFT_SCALE=100000`
//! is the size that is promised.

use std::time::Instant;

use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::worker_service_client::WorkerServiceClient;
use lineshaft_client::proto::{GetGroupRequest, SendGroupRequest, TaskStatus};

use super::{LEASE_SECONDS, RUN_MAX};
use crate::processes::Server;
#[cfg(feature = "redis")]
use crate::redis::Redis;
#[cfg(feature = "redis")]
use crate::replicas::{needs_redis, runtime};
use crate::scale::{MEMORY_MAX, scale, task, work_off};

const PAGE: u32 = 1000;
/// Room for a request with 100,000 named tasks.
const LINES: &str = "limits:\n  message_bytes_max: 33554432\n";

/// The most memory that the server had in its life, bytes.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("is told");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Sends a group, works it off, and looks at all of it.
async fn send_and_end(what: &str, server: &Server, count: usize) {
    let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
    let mut workers = WorkerServiceClient::connect(server.url()).await.expect("the server answers");
    let request = SendGroupRequest {
        group_id: "large".to_owned(),
        tasks: (0..count).map(|n| task(format!("member-{n}"), false)).collect(),
        request_id: "large".to_owned(),
    };
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    tasks.send_group(request.clone()).await.expect("is accepted");
    let sent = begun.elapsed();
    let again = tasks.send_group(request).await.expect("is accepted again").into_inner();
    assert!(again.already_sent);
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    work_off(&mut workers, &mut None, count).await;
    let mut ask = tasks.clone();
    let mut get = async |page_token: String| {
        let request = GetGroupRequest { group_id: "large".to_owned(), page_size: PAGE, page_token };
        ask.get_group(request).await.expect("is told").into_inner()
    };
    loop {
        let told = get(String::new()).await.group.expect("is set");
        assert_eq!(told.total as usize, count);
        if told.completed {
            assert_eq!((told.ended as usize, told.failed), (count, 0));
            break;
        }
        assert!(begun.elapsed() < RUN_MAX, "{told:?}");
    }
    let worked = begun.elapsed();
    let (mut seen, mut token) = (0, String::new());
    loop {
        let page = get(token).await;
        for state in &page.tasks {
            assert_eq!(
                (state.task_id.as_str(), state.status()),
                (format!("member-{seen}").as_str(), TaskStatus::Success)
            );
            seen += 1;
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, count);
    let peak = peak(server);
    println!(
        "{what}: a group of {count} sent in {sent:?}, ended in {worked:?}; the server took {} MiB at most",
        peak >> 20
    );
    assert!(peak < MEMORY_MAX, "{peak} bytes");
}

fn large_group(what: &str, server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(send_and_end(what, server, scale()));
}

#[test]
fn a_large_group_ends_while_the_server_stays_below_a_gibibyte() {
    large_group("embedded", &Server::replica_with(LINES, LEASE_SECONDS, &[]));
}

#[cfg(feature = "redis")]
#[test]
fn a_large_group_on_redis_ends_while_the_server_stays_below_a_gibibyte() {
    needs_redis!();
    let runtime = runtime();
    let redis = runtime.block_on(Redis::start(&[]));
    let lines = format!("broker: {}\n{LINES}", redis.url());
    large_group("Redis", &Server::replica_with(&lines, LEASE_SECONDS, &[]));
}
