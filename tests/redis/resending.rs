//! An id that is sent again where other programs may run its message at once.

use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::task::{Status, TaskId};

use crate::ending::{cancel, has_ended_as, send, server, task};
use crate::support::redis::Redis;
use crate::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_an_id_that_is_sent_again_stands_before_its_message_does() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let failpoints = Failpoints::at(Point::SendStated, Action::Hang, 1);
    let service = server(&redis, failpoints.clone()).await;
    // The first sending has nothing before it, and is one transaction.
    send(&service, vec![task("a")]).await;
    cancel(&service, "a").await;
    assert!(has_ended_as(&service, "a", lineshaft::task::FailureReason::Cancelled).await);
    let again = service.clone();
    tokio::spawn(async move { send(&again, vec![task("a")]).await });
    failpoints.struck().await;
    let state = service.states(&[TaskId::trusted("a")]).await.unwrap().remove(0).unwrap();
    assert_eq!(state.status, Status::Pending);
    assert_eq!(length(&mut redis.connection().await, "q").await, 0, "nobody can have run it yet");
    service.halt();
}
