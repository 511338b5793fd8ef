//! `ListQueues`, `GetQueue`, `PauseQueue`, `ResumeQueue`, `PurgeQueue`.

use lineshaft_client::proto::*;
use tonic::{Code, Status};

use crate::rooms::Room;
use crate::stubs::{Stubs, ids, lease_request, named, span, success};
use crate::support::{Refusal, refusal};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, queues:
            queues_are_listed_and_shown_with_what_waits
            a_paused_queue_leases_nothing_and_a_resumed_one_does
            a_purged_queue_is_empty_and_its_tasks_have_ended
            an_unknown_queue_is_refused_and_so_is_a_name_that_is_none
        );
    };
}
pub(crate) use cases;

async fn queue(stubs: &Stubs, name: &str) -> Result<Queue, Status> {
    let answer = stubs.queues().get_queue(GetQueueRequest { queue: name.into() }).await?;
    Ok(answer.into_inner().queue.expect("a queue"))
}

async fn pause(stubs: &Stubs, name: &str) -> Queue {
    let answer = stubs.queues().pause_queue(PauseQueueRequest { queue: name.into() }).await.expect("is paused");
    answer.into_inner().queue.expect("a queue")
}

async fn resume(stubs: &Stubs, name: &str) -> Queue {
    let answer = stubs.queues().resume_queue(ResumeQueueRequest { queue: name.into() }).await.expect("is resumed");
    answer.into_inner().queue.expect("a queue")
}

fn to(queue: &str) -> Task {
    Task { queue: queue.into(), ..named("n") }
}

async fn list(stubs: &Stubs, request: ListQueuesRequest) -> ListQueuesResponse {
    stubs.queues().list_queues(request).await.expect("are listed").into_inner()
}

pub(crate) async fn queues_are_listed_and_shown_with_what_waits(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    if !room.inspects {
        let status = queue(&stubs, "q1").await.expect_err("it cannot be known");
        assert_eq!(status.code(), Code::Unimplemented);
        let status = stubs.queues().list_queues(ListQueuesRequest::default()).await.expect_err("likewise");
        assert_eq!(status.code(), Code::Unimplemented);
        return;
    }
    for name in ["q2", "q1", "other"] {
        stubs.send(to(name)).await;
    }
    stubs.send(Task { delay: Some(span(std::time::Duration::from_secs(3_600))), ..to("q1") }).await;
    let shown = queue(&stubs, "q1").await.expect("is known");
    assert_eq!((shown.waiting, shown.delayed, shown.leased, shown.workers), (1, 1, 0, 0));
    assert!(shown.oldest_sent_at.is_some() && shown.oldest_age.is_some() && !shown.paused);
    assert!(shown.rates.expect("something was sent").sent > 0.0);

    let first = list(&stubs, ListQueuesRequest { page_size: 1, name_prefix: "q".into(), ..Default::default() }).await;
    assert_eq!(first.queues[0].name, "q1");
    let page_token = first.next_page_token;
    let next = list(&stubs, ListQueuesRequest { page_size: 1, name_prefix: "q".into(), page_token }).await;
    assert_eq!((next.queues[0].name.as_str(), next.next_page_token.as_str()), ("q2", ""));
}

pub(crate) async fn a_paused_queue_leases_nothing_and_a_resumed_one_does(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let id = stubs.send(to("work")).await;
    let paused = pause(&stubs, "work").await;
    assert!(paused.paused && paused.paused_at.is_some());
    assert_eq!(pause(&stubs, "work").await.paused_at, paused.paused_at, "again");
    let mut request = lease_request(&["n"], 1);
    request.subscriptions.iter_mut().for_each(|subscription| subscription.queue = "work".into());
    let none = stubs.workers().lease_tasks(request.clone()).await.expect("is answered").into_inner();
    assert!(none.leases.is_empty());
    assert!(!resume(&stubs, "work").await.paused);
    request.wait_max = Some(span(std::time::Duration::from_secs(20)));
    let leases = stubs.workers().lease_tasks(request).await.expect("is answered").into_inner().leases;
    assert_eq!(leases[0].task_id, id);
    assert_eq!(ids(&leases).len(), 1);
    stubs.record(&leases[0], success(Vec::new())).await;
}

pub(crate) async fn a_purged_queue_is_empty_and_its_tasks_have_ended(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let request = PurgeQueueRequest { queue: "work".into(), ..Default::default() };
    if !room.inspects {
        let status = stubs.queues().purge_queue(request).await.expect_err("it cannot be known");
        assert_eq!(status.code(), Code::Unimplemented);
        return;
    }
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(stubs.send(to("work")).await);
    }
    let dry = PurgeQueueRequest { dry_run: true, ..request.clone() };
    assert_eq!(stubs.queues().purge_queue(dry).await.expect("is counted").into_inner().purged, 5);
    let (mut purged, mut page_token) = (0, String::new());
    loop {
        let page = PurgeQueueRequest { page_size: 2, page_token, ..request.clone() };
        let answer = stubs.queues().purge_queue(page).await.expect("is purged").into_inner();
        purged += answer.purged;
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(purged, 5);
    for id in sent {
        let state = stubs.end(&id).await;
        assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Failure, FailureReason::Purged));
        assert_eq!(state.error, "lineshaft: purged");
    }
}

pub(crate) async fn an_unknown_queue_is_refused_and_so_is_a_name_that_is_none(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    if room.inspects {
        let status = queue(&stubs, "never").await.expect_err("nobody knows it");
        assert_eq!(refusal(&status), Refusal::new(Code::NotFound, "QUEUE_UNKNOWN", ""));
    }
    for (name, expected) in [("", Refusal::invalid("queue")), ("a b", Refusal::invalid("queue"))] {
        assert_eq!(refusal(&queue(&stubs, name).await.expect_err("is no name")), expected);
        let pause = stubs.queues().pause_queue(PauseQueueRequest { queue: name.into() }).await;
        assert_eq!(refusal(&pause.expect_err("is no name")), expected);
        let resume = stubs.queues().resume_queue(ResumeQueueRequest { queue: name.into() }).await;
        assert_eq!(refusal(&resume.expect_err("is no name")), expected);
        let purge = PurgeQueueRequest { queue: name.into(), ..Default::default() };
        assert_eq!(refusal(&stubs.queues().purge_queue(purge).await.expect_err("is no name")), expected);
    }
}
