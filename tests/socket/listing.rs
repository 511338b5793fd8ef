//! `ListLeases` and `ListWorkers`.

use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::*;

use crate::rooms::Room;
use crate::stubs::{Stubs, nanos, success, task};
use crate::support::{Refusal, refusal, until};
use crate::talk::{Talk, hello};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, listing:
            leases_are_listed_oldest_first_by_queue_by_session_and_by_page
            a_listed_lease_tells_who_holds_what_since_when
            a_listed_lease_shows_how_far_its_attempt_is
            a_lease_that_has_ended_is_not_listed
            workers_are_listed_as_they_introduced_themselves
            workers_are_listed_by_page_each_once
            pages_that_cannot_be_are_refused
        );
    };
}
pub(crate) use cases;

async fn leases(stubs: &Stubs, request: ListLeasesRequest) -> ListLeasesResponse {
    stubs.queues().list_leases(request).await.expect("is answered").into_inner()
}

pub(crate) async fn leases_are_listed_oldest_first_by_queue_by_session_and_by_page(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    for i in 0..5 {
        let queue = if i % 2 == 0 { "even" } else { "odd" };
        stubs.send(Task { queue: queue.into(), ..task(&format!("t{i}")) }).await;
        let names = vec!["n".into()];
        let subscriptions = vec![Subscription { queue: queue.into(), names, weight: 0 }];
        let request = LeaseTasksRequest { subscriptions, ..crate::stubs::lease_request(&[], 1) };
        let leased = stubs.workers().lease_tasks(request).await.expect("is answered").into_inner();
        assert_eq!(leased.leases[0].task_id, format!("t{i}"));
    }
    let listed = |response: &ListLeasesResponse| -> Vec<String> {
        response.leases.iter().map(|lease| lease.task_id.clone()).collect()
    };
    let all = leases(&stubs, ListLeasesRequest::default()).await;
    assert_eq!(listed(&all), ["t0", "t1", "t2", "t3", "t4"]);
    assert!(all.leases.is_sorted_by_key(|lease| lease.fencing_token));
    let odd = leases(&stubs, ListLeasesRequest { queue: "odd".into(), ..Default::default() }).await;
    assert_eq!(listed(&odd), ["t1", "t3"]);
    let session_id = all.leases[2].session_id.clone();
    let session = leases(&stubs, ListLeasesRequest { session_id: session_id.clone(), ..Default::default() }).await;
    assert_eq!(listed(&session), ["t2"]);
    let neither = ListLeasesRequest { queue: "odd".into(), session_id, ..Default::default() };
    assert!(leases(&stubs, neither).await.leases.is_empty());

    let mut request = ListLeasesRequest { page_size: 2, ..Default::default() };
    let mut paged = Vec::new();
    loop {
        let page = leases(&stubs, request.clone()).await;
        assert!(page.leases.len() <= 2);
        paged.extend(listed(&page));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(paged, listed(&all));
}

pub(crate) async fn a_listed_lease_tells_who_holds_what_since_when(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let before = i128::from(SystemClock.wall().0);
    let (mut talk, welcome) = Talk::greet(&stubs, Hello { worker: "host:1".into(), ..hello(&["n"]) }).await;
    talk.credit(1).await;
    let lease = talk.offer().await;
    let shown = stubs.held().await.remove(0);
    assert_eq!((&shown.lease_id, shown.fencing_token), (&lease.lease_id, lease.fencing_token));
    assert_eq!((shown.task_id.as_str(), shown.task_name.as_str(), shown.attempt), ("a", "n", 1));
    assert_eq!((shown.queue.as_str(), shown.worker.as_str()), ("machinery_tasks", "host:1"));
    assert_eq!(shown.session_id, welcome.session_id);
    let since = nanos(shown.leased_at);
    assert!(before <= since && since <= i128::from(SystemClock.wall().0));
}

pub(crate) async fn a_listed_lease_shows_how_far_its_attempt_is(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = talk.offer().await;
    let shown = async || stubs.held().await.remove(0);
    let first = shown().await;
    assert_eq!((first.accepted, first.started, first.progress), (false, false, 0.0));
    talk.say(Said::Accepted(Accepted { up_to: 1 })).await;
    talk.heartbeat(0, &[]).await;
    let accepted = shown().await;
    assert_eq!((accepted.accepted, accepted.started), (true, false));
    talk.say(Said::Started(Started { lease_id: lease.lease_id.clone() })).await;
    let lease_id = || lease.lease_id.clone();
    talk.say(Said::Progress(Progress { lease_id: lease_id(), fraction: 0.25, message: "a quarter".into() })).await;
    talk.heartbeat(0, &[]).await;
    let running = shown().await;
    assert!(running.accepted && running.started);
    assert_eq!((running.progress, running.progress_message.as_str()), (0.25, "a quarter"));
    stubs.until("a", TaskStatus::Started).await;
    // What is out of range is taken at its nearest bound.
    let bounds = [(7.0, 1.0), (-1.0, 0.0), (f64::NAN, 0.0), (f64::INFINITY, 1.0)];
    for (fraction, bound) in bounds {
        let message = "é".repeat(501);
        talk.say(Said::Progress(Progress { lease_id: lease_id(), fraction, message })).await;
        talk.heartbeat(0, &[]).await;
        let shown = shown().await;
        assert_eq!((shown.progress, shown.progress_message), (bound, "é".repeat(500)));
    }
}

pub(crate) async fn a_lease_that_has_ended_is_not_listed(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b"]).await;
    let (leases, _) = stubs.lease_many("n", 2).await;
    stubs.record(&leases[0], success([])).await;
    let held = stubs.held().await;
    assert_eq!((held.len(), held[0].task_id.as_str()), (1, "b"));
}

pub(crate) async fn workers_are_listed_as_they_introduced_themselves(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let subscriptions = vec![
        Subscription { queue: String::new(), names: vec!["z".into(), "n".into()], weight: 0 },
        Subscription { queue: "q".into(), names: vec!["m".into()], weight: 7 },
    ];
    let hello = Hello {
        worker: "host:1".into(),
        language: "rust".into(),
        version: "1.2".into(),
        subscriptions,
        concurrency: 5,
        ..Default::default()
    };
    let (mut talk, welcome) = Talk::greet(&stubs, hello).await;
    talk.credit(1).await;
    talk.lease().await;
    let shown = stubs.listed().await.remove(0);
    assert_eq!((&shown.session_id, shown.worker.as_str()), (&welcome.session_id, "host:1"));
    assert_eq!((shown.language.as_str(), shown.version.as_str(), shown.concurrency), ("rust", "1.2", 5));
    assert_eq!((shown.leases, shown.attached), (1, true));
    let age = shown.last_heartbeat_age.expect("is always set");
    assert!(age.seconds < 30, "{age:?}");
    let mut takes: Vec<_> = shown
        .subscriptions
        .into_iter()
        .map(|mut taken| {
            taken.names.sort();
            (taken.queue, taken.names, taken.weight)
        })
        .collect();
    takes.sort();
    let of = |queue: &str, names: &[&str], weight| {
        (queue.to_owned(), names.iter().map(ToString::to_string).collect::<Vec<_>>(), weight)
    };
    assert_eq!(takes, [of("machinery_tasks", &["n", "z"], 1), of("q", &["m"], 7)]);
    // One without a name is called by its session.
    let (_other, nameless) = Talk::greet(&stubs, Hello { worker: String::new(), ..crate::talk::hello(&["n"]) }).await;
    let found = stubs.listed().await.into_iter().find(|worker| worker.session_id == nameless.session_id);
    assert_eq!(found.map(|worker| worker.worker), Some(nameless.session_id));
}

pub(crate) async fn workers_are_listed_by_page_each_once(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let mut talks = Vec::new();
    for _ in 0..5 {
        talks.push(Talk::greet(&stubs, hello(&["n"])).await);
    }
    for page_size in [0, 1, 2, 5, 1000] {
        let mut request = ListWorkersRequest { page_size, page_token: String::new() };
        let mut found = Vec::new();
        loop {
            let page = stubs.workers().list_workers(request.clone()).await.expect("is answered").into_inner();
            assert!(page_size == 0 || page.workers.len() <= page_size as usize);
            found.extend(page.workers.into_iter().map(|worker| worker.session_id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let mut all: Vec<_> = talks.iter().map(|(_, welcome)| welcome.session_id.clone()).collect();
        all.sort();
        found.sort();
        assert_eq!(found, all);
    }
    talks.truncate(2);
    until("the others are detached", async || {
        let attached = stubs.listed().await.into_iter().filter(|worker| worker.attached).count();
        (attached == 2).then_some(())
    })
    .await;
    let silent = stubs.listed().await.into_iter().map(|worker| worker.last_heartbeat_age);
    assert!(silent.flatten().all(|age| age.seconds < Duration::from_secs(30).as_secs().cast_signed()));
}

pub(crate) async fn pages_that_cannot_be_are_refused(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let (size, token) = (Refusal::limit("page_size"), Refusal::invalid("page_token"));
    for (page_size, page_token, refused) in [(1001, "", size), (0, "nonsense", token)] {
        let page_token = page_token.to_owned();
        let request = ListWorkersRequest { page_size, page_token: page_token.clone() };
        assert_eq!(refusal(&stubs.workers().list_workers(request).await.expect_err("is refused")), refused);
        let request = ListLeasesRequest { page_size, page_token, ..Default::default() };
        assert_eq!(refusal(&stubs.queues().list_leases(request).await.expect_err("is refused")), refused);
    }
}
