//! Many tasks that wait and many that are delayed: each is listed once, page after page, and a killed server finds them all
//! again. Many that have ended and whose results have expired: the store gives their room back. Prints what it takes;
//! `LINESHAFT_SCALE=1000000` is the size the promises are made for.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lineshaft_client::proto::queue_service_client::QueueServiceClient;
use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::worker_service_client::WorkerServiceClient;
use lineshaft_client::proto::{
    FailureReason, GetPendingTasksRequest, GetQueueRequest, GetStatesRequest, LeaseTasksRequest, ListTasksRequest,
    Report, ReportTasksRequest, Resume, SendTasksRequest, Subscription, Success, Task, TaskFilter, TaskStatus, report,
    send_result,
};
use tonic::transport::Channel;

use super::processes::{Server, until};

/// Waiting tasks, and as many delayed ones, where nothing else is asked for.
const SCALE: usize = 20_000;
/// What the server may take, whatever the size, bytes.
pub(super) const MEMORY_MAX: u64 = 1 << 30;
/// What the store may take on disk once all results have expired, whatever the size, bytes.
const DISK_MAX: u64 = 200 << 20;
/// How many tasks end for each that waits in the other test.
const ENDED_EACH: usize = 5;
/// Ten times what forgetting takes, for each of the tasks.
const FORGOTTEN_MAX: Duration = Duration::from_millis(2);
/// Ten times what ending a thousand tasks takes once their time is over, on a busy machine.
const EXPIRED_MAX: Duration = Duration::from_secs(20);
/// How long those tasks may be begun, seconds.
const LIFETIME: i64 = 2;
/// Tasks in one call.
const BATCH: usize = 1000;
const PAGE: u32 = 1000;
const DAY: i64 = 86_400;

pub(super) fn scale() -> usize {
    std::env::var("LINESHAFT_SCALE").map_or(SCALE, |text| text.parse().expect("LINESHAFT_SCALE is a number"))
}

pub(super) fn task(id: String, delayed: bool) -> Task {
    let delay = delayed.then_some(prost_types::Duration { seconds: DAY, nanos: 0 });
    Task { id, name: "nobody".to_owned(), queue: "q".to_owned(), delay, ..Task::default() }
}

async fn fill(server: &Server, count: usize) {
    let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
    for first in (0..count).step_by(BATCH) {
        let of = |delayed: bool, word: &'static str| {
            (first..count.min(first + BATCH)).map(move |n| task(format!("{word}-{n}"), delayed)).collect::<Vec<_>>()
        };
        for batch in [of(false, "waiting"), of(true, "delayed")] {
            let answer = tasks.send_tasks(SendTasksRequest { tasks: batch }).await.expect("are sent").into_inner();
            let sent = |result: &lineshaft_client::proto::SendResult| {
                matches!(result.result, Some(send_result::Result::TaskId(_)))
            };
            assert!(answer.results.iter().all(sent));
        }
    }
}

/// What a walk through all pages of a listing found and took.
struct Walk {
    ids: HashSet<String>,
    pages: Vec<Duration>,
}

impl Walk {
    /// Prints the median of the first and of the last tenth of the pages.
    fn tell(&self, what: &str) {
        let median = |pages: &[Duration]| {
            let mut sorted = pages.to_vec();
            sorted.sort_unstable();
            sorted.get(sorted.len() / 2).copied().unwrap_or_default()
        };
        let tenth = self.pages.len().div_ceil(10);
        let (first, last) = (median(&self.pages[..tenth]), median(&self.pages[self.pages.len() - tenth..]));
        let ratio = last.as_secs_f64() / first.as_secs_f64().max(1e-9);
        println!("{what}: {} pages, the first take {first:?}, the last {last:?}: {ratio:.2} x", self.pages.len());
    }
}

/// Asks for page after page; `ask` answers the ids of a page and the token of the next.
async fn walk(mut ask: impl AsyncFnMut(String) -> (Vec<String>, String)) -> Walk {
    let mut walk = Walk { ids: HashSet::new(), pages: Vec::new() };
    let mut token = String::new();
    loop {
        #[allow(clippy::disallowed_methods)]
        let begun = Instant::now();
        let (ids, next) = ask(token).await;
        walk.pages.push(begun.elapsed());
        for id in ids {
            assert!(walk.ids.insert(id.clone()), "{id} is on two pages");
        }
        token = next;
        if token.is_empty() {
            return walk;
        }
    }
}

async fn look(server: &Server, count: usize) {
    let mut queues = QueueServiceClient::connect(server.url()).await.expect("the server answers");
    let request = GetQueueRequest { queue: "q".to_owned() };
    let queue = queues.get_queue(request).await.expect("is told").into_inner().queue.expect("is set");
    assert_eq!((queue.waiting, queue.delayed), (count as u64, count as u64));
    let pending = walk(async |page_token| {
        let request =
            GetPendingTasksRequest { queue: "q".to_owned(), include_delayed: true, page_size: PAGE, page_token };
        let page = queues.get_pending_tasks(request).await.expect("are listed").into_inner();
        (page.tasks.into_iter().filter_map(|waiting| waiting.task).map(|task| task.id).collect(), page.next_page_token)
    });
    let pending = pending.await;
    assert_eq!(pending.ids.len(), 2 * count);
    pending.tell("GetPendingTasks");
    let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
    let listed = walk(async |page_token| {
        let filter = TaskFilter { statuses: vec![TaskStatus::Pending.into()], ..TaskFilter::default() };
        let request = ListTasksRequest { filter: Some(filter), page_size: PAGE, page_token };
        let page = tasks.list_tasks(request).await.expect("are listed").into_inner();
        (page.tasks.into_iter().filter_map(|one| one.state).map(|state| state.task_id).collect(), page.next_page_token)
    });
    let listed = listed.await;
    assert_eq!(listed.ids, pending.ids);
    listed.tell("ListTasks");
}

/// Resident memory of the server, bytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("is told");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn many_waiting_and_delayed_tasks_are_each_listed_once_and_found_again_after_a_crash() {
    let count = scale();
    let mut server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(fill(&server, count));
    runtime.block_on(look(&server, count));
    let taken = memory(&server);
    println!("{count} waiting and {count} delayed tasks: {} MiB resident", taken >> 20);
    assert!(taken < MEMORY_MAX, "{taken} bytes");
    server.kill();
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    server.life(&[]);
    println!("it listens again {:?} after it was killed", begun.elapsed());
    runtime.block_on(look(&server, count));
    let taken = memory(&server);
    println!("after the restart: {} MiB resident", taken >> 20);
    assert!(taken < MEMORY_MAX, "{taken} bytes");
}

/// Runs so many tasks, whose results expire after a second.
async fn run_through(server: &Server, count: usize) {
    let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
    let mut workers = WorkerServiceClient::connect(server.url()).await.expect("the server answers");
    let mut session = None;
    for first in (0..count).step_by(BATCH) {
        let retention = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let one = |n| Task { result_retention: retention, ..task(format!("ended-{n}"), false) };
        let batch: Vec<Task> = (first..count.min(first + BATCH)).map(one).collect();
        let batch_len = batch.len();
        tasks.send_tasks(SendTasksRequest { tasks: batch }).await.expect("are sent");
        work_off(&mut workers, &mut session, batch_len).await;
    }
}

/// Works so many tasks, a batch at a time.
pub(super) async fn work_off(
    workers: &mut WorkerServiceClient<Channel>,
    session: &mut Option<Resume>,
    mut left: usize,
) {
    while left > 0 {
        let takes = Subscription { queue: "q".to_owned(), names: vec!["nobody".to_owned()], weight: 1 };
        let request = LeaseTasksRequest {
            session: session.take(),
            subscriptions: vec![takes],
            tasks_max: BATCH as u32,
            wait_max: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..LeaseTasksRequest::default()
        };
        let leased = workers.lease_tasks(request).await.expect("are leased").into_inner();
        *session = leased.session;
        left -= leased.leases.len();
        let done = |lease: lineshaft_client::proto::Lease| Report {
            lease_id: lease.lease_id,
            outcome: Some(report::Outcome::Success(Success::default())),
            ..Report::default()
        };
        let reports: Vec<Report> = leased.leases.into_iter().map(done).collect();
        if !reports.is_empty() {
            workers.report_tasks(ReportTasksRequest { reports }).await.expect("are reported");
        }
    }
}

/// Tasks that have ended, as far as anybody remembers them; at most a page.
async fn remembered(server: &Server) -> usize {
    let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
    let statuses = vec![TaskStatus::Success.into()];
    let filter = Some(TaskFilter { statuses, ..TaskFilter::default() });
    let request = ListTasksRequest { filter, page_size: PAGE, page_token: String::new() };
    tasks.list_tasks(request).await.expect("are listed").into_inner().tasks.len()
}

/// Bytes of the files of the store.
fn disk(server: &Server) -> u64 {
    let files = std::fs::read_dir(server.dir().join("data")).expect("it is there");
    files.map(|file| file.expect("is told").metadata().expect("is told").len()).sum()
}

#[test]
fn the_room_of_ended_tasks_comes_back_once_their_results_have_expired() {
    let count = ENDED_EACH * scale();
    let server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(run_through(&server, count));
    println!("{count} tasks have ended: {} MiB on disk, {} MiB resident", disk(&server) >> 20, memory(&server) >> 20);
    let max = Duration::from_secs(60) + FORGOTTEN_MAX * count as u32;
    until("all is forgotten", max, || (runtime.block_on(remembered(&server)) == 0).then_some(()));
    until("the room is back", max, || (disk(&server) < DISK_MAX).then_some(()));
    println!("their results have expired: {} MiB on disk, {} MiB resident", disk(&server) >> 20, memory(&server) >> 20);
}

/// Sends a batch of tasks that may be begun for [`LIFETIME`], behind all others; answers their ids.
async fn send_expiring(server: &Server, word: &str) -> Vec<String> {
    let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
    let ids: Vec<String> = (0..BATCH).map(|n| format!("{word}-{n}")).collect();
    let expires_in = Some(prost_types::Duration { seconds: LIFETIME, nanos: 0 });
    let one = |id: &String| Task { expires_in, ..task(id.clone(), false) };
    let batch = ids.iter().map(one).collect();
    tasks.send_tasks(SendTasksRequest { tasks: batch }).await.expect("are sent");
    ids
}

/// Waits until all of these tasks have expired.
fn until_expired(server: &Server, runtime: &tokio::runtime::Runtime, ids: &[String]) {
    let have_expired = async || {
        let mut tasks = TaskServiceClient::connect(server.url()).await.expect("the server answers");
        let request = GetStatesRequest { task_ids: ids.to_vec() };
        let states = tasks.get_states(request).await.expect("are told").into_inner().states;
        states.iter().filter(|state| state.failure_reason() == FailureReason::Expired).count() == ids.len()
    };
    until("all have expired", EXPIRED_MAX, || runtime.block_on(have_expired()).then_some(()));
}

#[test]
fn a_thousand_tasks_expire_in_time_among_many_others_and_over_a_crash() {
    let count = scale();
    let mut server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(fill(&server, count));
    #[allow(clippy::disallowed_methods)]
    let sent = Instant::now();
    let ids = runtime.block_on(send_expiring(&server, "expiring"));
    until_expired(&server, &runtime, &ids);
    println!(
        "{BATCH} tasks of {LIFETIME} s among {} others expired {:?} after they were sent",
        2 * count,
        sent.elapsed()
    );
    let ids = runtime.block_on(send_expiring(&server, "crashed"));
    server.kill();
    server.life(&[]);
    until_expired(&server, &runtime, &ids);
    runtime.block_on(look(&server, count));
}
