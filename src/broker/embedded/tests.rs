//! What is particular to this room; what it shares with the others is in the conformance suite.

use std::path::Path;

use super::*;
use crate::broker::Broker as _;
use crate::clock::{SystemClock, TestClock};
use crate::engine::Options;
use crate::task::TaskId;

const HOUR: Duration = Duration::from_secs(3600);

struct Room {
    broker: Broker,
    clock: Arc<dyn Clock>,
    queue: QueueName,
    names: Vec<TaskName>,
}

impl Room {
    fn open(dir: &Path) -> Self {
        Self::with_clock(dir, Arc::new(SystemClock))
    }

    fn with_clock(dir: &Path, clock: Arc<dyn Clock>) -> Self {
        let engine = Engine::open(dir, Options::default()).unwrap();
        let broker = Broker::open(engine, Arc::clone(&clock)).unwrap();
        let names = ["a", "b"].map(TaskName::trusted).to_vec();
        Self { broker, clock, queue: QueueName::trusted("q"), names }
    }

    fn task(&self, body: &str) -> NewTask {
        NewTask {
            key: MessageKey::generate(),
            task: TaskId::generate(),
            name: self.names[0].clone(),
            queue: self.queue.clone(),
            routing_key: None,
            body: Bytes::from(body.to_owned()),
            available_at: None,
            priority: 0,
        }
    }

    async fn send(&self, body: &str) -> NewTask {
        let task = self.task(body);
        assert_eq!(self.broker.publish(std::slice::from_ref(&task)).await, [Ok(Published::New)]);
        task
    }

    async fn take(&self, max: usize) -> Vec<Delivery> {
        let want = Want {
            queue: &self.queue,
            names: &self.names,
            max: NonZeroUsize::new(max).unwrap(),
            body_bytes_max: usize::MAX,
        };
        self.broker.take(&want).await.unwrap()
    }

    async fn settle(&self, delivery: &Delivery, settle: Settle) -> Result<(), StoreError> {
        self.broker.settle(&[(delivery.receipt.clone(), settle)]).await.remove(0)
    }

    async fn is_ready(&self) -> bool {
        let ready = self.broker.ready(&self.queue, &self.names);
        tokio::pin!(ready);
        futures::poll!(ready).is_ready()
    }

    async fn pending(&self, after: Option<&[u8]>, max: usize) -> PendingPage {
        let max = NonZeroUsize::new(max).unwrap();
        let query = PendingQuery { queue: &self.queue, delayed: true, after, max, body_bytes_max: usize::MAX };
        self.broker.pending(&query).await.unwrap()
    }
}

fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|d| std::str::from_utf8(&d.body).unwrap()).collect()
}

#[tokio::test]
async fn after_a_restart_everything_not_acknowledged_waits_in_its_old_order_and_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room::open(dir.path());
    for body in ["1", "2", "3", "4"] {
        room.send(body).await;
    }
    let taken = room.take(3).await;
    assert!(taken.iter().all(|d| !d.redelivered));
    room.settle(&taken[1], Settle::Ack).await.unwrap();
    assert!(room.settle(&taken[1], Settle::Ack).await == Err(StoreError::Stale));
    drop(room);
    let room = Room::open(dir.path());
    room.send("5").await;
    // A receipt of an earlier process is void.
    assert_eq!(room.settle(&taken[0], Settle::Ack).await, Err(StoreError::Stale));
    let again = room.take(10).await;
    assert_eq!(bodies(&again), ["1", "3", "4", "5"]);
    assert_eq!(again.iter().map(|d| d.redelivered).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(room.broker.store.index.counts(), (0, 4));
}

#[tokio::test]
async fn large_bodies_are_kept_apart_and_go_with_their_message() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room::open(dir.path());
    let large = "x".repeat(100_000);
    let task = room.send(&large).await;
    let small = room.send("small").await;
    let keys = [task.key.clone(), MessageKey::trusted("nobody"), small.key.clone()];
    let found = Recall::recall(&room.broker, &keys).await.unwrap();
    assert_eq!(found, [Some(task.body.clone()), None, Some(small.body.clone())]);
    let taken = room.take(1).await;
    assert_eq!(taken[0].body, task.body);
    assert_eq!(taken[0].key, Some(task.key.clone()));
    room.settle(&taken[0], Settle::Ack).await.unwrap();
    let left = room.broker.engine.read(|r| {
        r.scan(crate::engine::Table::new("bodies"), (Bound::Unbounded, Bound::Unbounded), Direction::Forward, 9)
    });
    assert!(left.unwrap().is_empty());
    // Its key may be used again, and an old receipt does not reach the new message.
    assert_eq!(room.broker.publish(&[task]).await, [Ok(Published::New)]);
    assert_eq!(room.settle(&taken[0], Settle::Ack).await, Err(StoreError::Stale));
    assert_eq!(room.take(10).await.len(), 2);
}

#[tokio::test]
async fn a_key_that_is_carried_is_not_published_again_even_in_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room::open(dir.path());
    let task = room.task("once");
    let answers = room.broker.publish(&[task.clone(), task.clone()]).await;
    assert_eq!(answers, [Ok(Published::New), Ok(Published::Already)]);
    let taken = room.take(10).await;
    assert_eq!(room.broker.publish(&[task]).await, [Ok(Published::Already)]);
    assert_eq!(taken.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_wakes_who_waits_when_it_is_due_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::new(WallTime(1_790_000_000_000_000_000)));
    let mut room = Room::with_clock(dir.path(), clock.clone());
    let start = clock.now();
    for (body, after) in [("late", 2 * HOUR), ("soon", HOUR)] {
        let task = NewTask { available_at: Some(clock.wall().plus(after)), ..room.task(body) };
        assert_eq!(room.broker.publish(&[task]).await, [Ok(Published::New)]);
    }
    assert!(!room.is_ready().await);
    assert!(room.take(10).await.is_empty());
    room.broker.ready(&room.queue, &room.names).await.unwrap();
    let waited = start.elapsed();
    assert!(waited >= HOUR && waited < HOUR + Duration::from_secs(1), "{waited:?}");
    let taken = room.take(10).await;
    assert_eq!(bodies(&taken), ["soon"]);
    // Put off until after the late one.
    room.settle(&taken[0], Settle::Return { after: 2 * HOUR, began: true }).await.unwrap();
    let queue = room.queue.clone();
    drop(room);
    room = Room::with_clock(dir.path(), clock.clone());
    for body in ["late", "soon"] {
        room.broker.ready(&queue, &room.names).await.unwrap();
        let taken = room.take(10).await;
        assert_eq!(bodies(&taken), [body]);
        room.settle(&taken[0], Settle::Ack).await.unwrap();
    }
    let waited = start.elapsed();
    assert!(waited >= 3 * HOUR && waited < 3 * HOUR + Duration::from_secs(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_steps_neither_loses_a_delayed_message_nor_makes_its_waiter_spin() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::new(WallTime(1_790_000_000_000_000_000)));
    let room = Room::with_clock(dir.path(), clock.clone());
    let task = NewTask { available_at: Some(clock.wall().plus(HOUR)), ..room.task("x") };
    assert_eq!(room.broker.publish(&[task]).await, [Ok(Published::New)]);
    // Back by an hour: due two hours from now.
    let start = clock.now();
    clock.step_to(WallTime(clock.wall().0 - HOUR.as_nanos() as u64));
    assert!(!room.is_ready().await);
    {
        let ready = room.broker.ready(&room.queue, &room.names);
        tokio::pin!(ready);
        assert!(tokio::time::timeout(HOUR, &mut ready).await.is_err());
        // Forward by an hour: noticed at the next look.
        clock.step_to(WallTime(clock.wall().0 + HOUR.as_nanos() as u64));
        ready.await.unwrap();
    }
    let waited = start.elapsed();
    assert!(waited >= HOUR && waited <= HOUR + CLOCK_LOOK, "{waited:?}");
    // What has become due stays so.
    clock.step_to(WallTime(clock.wall().0 - 2 * HOUR.as_nanos() as u64));
    assert!(room.is_ready().await);
    assert_eq!(room.take(1).await.len(), 1);
    assert!(room.clock.wall() > WallTime(0));
}

#[tokio::test]
async fn pages_walk_the_queue_across_priorities_names_and_delays() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room::open(dir.path());
    let mut expected = Vec::new();
    let later = room.clock.wall().plus(HOUR);
    for n in 0..30u8 {
        let task = NewTask {
            name: room.names[usize::from(n % 2)].clone(),
            priority: n % 3,
            available_at: (n % 5 == 0).then(|| later.plus(Duration::from_secs(u64::from(100 - n)))),
            ..room.task(&n.to_string())
        };
        expected.push((task.available_at, u8::MAX - task.priority, n, task.body.clone()));
        assert_eq!(room.broker.publish(&[task]).await, [Ok(Published::New)]);
    }
    // Ready ones by priority and order, delayed ones by time.
    expected.sort_by_key(|(at, priority, n, _)| (*at, if at.is_some() { 0 } else { *priority }, *n));
    let mut seen = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = room.pending(after.as_deref(), 7).await;
        seen.extend(page.items.into_iter().map(|item| item.body));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected.into_iter().map(|(.., body)| body).collect::<Vec<_>>());
    let max = NonZeroUsize::MIN;
    for position in [&b""[..], b"x", &[0; 8], &[1; 9], &[2; 9], &[0; 17]] {
        let query =
            PendingQuery { queue: &room.queue, delayed: true, after: Some(position), max, body_bytes_max: usize::MAX };
        assert_eq!(room.broker.pending(&query).await.unwrap_err(), StoreError::Position, "{position:?}");
    }
}

#[tokio::test]
async fn a_waiter_is_woken_by_its_own_names_only_and_may_go_away() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room::open(dir.path());
    let other = [TaskName::trusted("other")];
    let mut waiting = boxed(room.broker.ready(&room.queue, &room.names));
    let mut others = boxed(room.broker.ready(&room.queue, &other));
    assert!(futures::poll!(&mut waiting).is_pending());
    assert!(futures::poll!(&mut others).is_pending());
    drop(boxed(room.broker.ready(&room.queue, &room.names)));
    room.send("x").await;
    assert!(futures::poll!(&mut waiting).is_ready());
    assert!(futures::poll!(&mut others).is_pending());
}

fn boxed<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    Box::pin(future)
}

#[tokio::test]
async fn many_waiting_messages_open_quickly_and_take_little_memory() {
    const MESSAGES: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let room = Room::open(dir.path());
    let body = "x".repeat(256);
    for _ in 0..MESSAGES / 1000 {
        let batch: Vec<_> = (0..1000).map(|_| room.task(&body)).collect();
        assert!(room.broker.publish(&batch).await.iter().all(Result::is_ok));
    }
    let file_bytes = room.broker.engine.stats().file_bytes;
    drop(room);
    let start = tokio::time::Instant::now();
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    let opened = start.elapsed();
    let broker = Broker::open(engine, Arc::new(SystemClock)).unwrap();
    println!(
        "{MESSAGES} messages of {} bytes, file {} KiB: engine open {opened:?}, scan {:?}",
        body.len(),
        file_bytes / 1024,
        start.elapsed() - opened
    );
    assert_eq!(broker.store.index.counts(), (MESSAGES, 0));
}
