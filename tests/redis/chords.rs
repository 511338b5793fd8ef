//! Records of groups on Redis, beside Machinery's workers: its lock, its bytes, its times.

use std::time::Duration;

use lineshaft::backend::redis::Backend;
use lineshaft::backend::{Backend as _, GroupMeta, Triggered};
use lineshaft::clock::{Clock as _, SystemClock};
use lineshaft::link::redis::Access;
use lineshaft::task::{GroupId, MessageKey, TaskId, Timestamp};
use redis::aio::MultiplexedConnection;

use crate::support::redis::Redis;
use crate::support::redis_cluster::Pooled;
use crate::world::*;

const MUTEX: &str = "TriggerChordMutex";
const KEEP: Duration = Duration::from_secs(3_600);

fn meta() -> GroupMeta {
    GroupMeta {
        id: GroupId::trusted("group_g"),
        tasks: ["task_a", "task_b"].map(TaskId::trusted).to_vec(),
        is_triggered: false,
        created_at: Timestamp { seconds: 1_795_487_936, nanos: 949_854_053, offset_minutes: 0 },
    }
}

/// What Machinery writes of it.
fn record(is_triggered: bool, ours: &str) -> String {
    format!(
        "{{\"GroupUUID\":\"group_g\",\"TaskUUIDs\":[\"task_a\",\"task_b\"],\"ChordTriggered\":{is_triggered},\"Lock\":false,\
         \"CreatedAt\":\"{}\",\"TTL\":0{ours}}}",
        meta().created_at
    )
}

async fn trigger(backend: &Backend, message: &str) -> Triggered {
    backend.trigger(&meta().id, &MessageKey::trusted(message), KEEP, SystemClock.wall()).await.unwrap()
}

async fn get(connection: &mut MultiplexedConnection, key: &str) -> Option<String> {
    redis::cmd("GET").arg(key).query_async(connection).await.unwrap()
}

async fn ttl(connection: &mut MultiplexedConnection, key: &str) -> i64 {
    redis::cmd("TTL").arg(key).query_async(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_byte_for_byte_machinerys_and_its_flag_waits_for_machinerys_lock() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let backend = Backend::new(redis.link().await);
    let mut connection = redis.connection().await;
    backend.put_group(&meta(), KEEP, SystemClock.wall()).await.unwrap();
    assert_eq!(get(&mut connection, "group_g").await, Some(record(false, "")));
    assert!((3_590..=3_600).contains(&ttl(&mut connection, "group_g").await));
    run(&mut connection, &["SET", MUTEX, "another's", "NX", "PX", "8000"]).await;
    assert_eq!(trigger(&backend, "m").await, Triggered::Busy);
    assert_eq!(get(&mut connection, "group_g").await, Some(record(false, "")), "nothing was written");
    run(&mut connection, &["DEL", MUTEX]).await;
    run(&mut connection, &["EXPIRE", "group_g", "5"]).await;
    assert_eq!(trigger(&backend, "m").await, Triggered::Ours);
    let ours = record(true, ",\"Lineshaft\":{\"Message\":\"m\"}");
    assert_eq!(get(&mut connection, "group_g").await, Some(ours));
    assert!(ttl(&mut connection, "group_g").await > 3_590, "it is kept anew");
    // A worker of Machinery writes what it read, and no more: then it is another's.
    run(&mut connection, &["SET", "group_g", &record(true, "")]).await;
    assert_eq!(trigger(&backend, "m").await, Triggered::Theirs);
    for odd in [r#"{"TaskUUID":"group_g","State":"SUCCESS"}"#, "no JSON"] {
        run(&mut connection, &["SET", "group_g", odd]).await;
        assert_eq!(trigger(&backend, "m").await, Triggered::Unknown);
    }
    run(&mut connection, &["DEL", "group_g"]).await;
    run(&mut connection, &["RPUSH", "group_g", "a list"]).await;
    assert_eq!(trigger(&backend, "m").await, Triggered::Unknown);
    assert_eq!(backend.groups(&[meta().id], SystemClock.wall()).await, Ok(vec![None]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_machinery_wrote_is_kept_longer_and_what_is_no_end_is_left_alone() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let backend = Backend::new(redis.link().await);
    let mut connection = redis.connection().await;
    let state = |id: &str, state: &str| format!(r#"{{"TaskUUID":"{id}","TaskName":"add","State":"{state}","TTL":0}}"#);
    run(&mut connection, &["SET", "group_g", &record(false, ""), "EX", "60"]).await;
    run(&mut connection, &["SET", "task_a", &state("task_a", "SUCCESS"), "EX", "60"]).await;
    run(&mut connection, &["SET", "task_b", &state("task_b", "STARTED"), "EX", "60"]).await;
    run(&mut connection, &["SET", "task_c", &state("task_c", "FAILURE"), "EX", "1900"]).await;
    run(&mut connection, &["SET", "task_d", &state("task_d", "FAILURE")]).await;
    run(&mut connection, &["RPUSH", "task_e", "a list"]).await;
    run(&mut connection, &["EXPIRE", "task_e", "60"]).await;
    let tasks: Vec<TaskId> = ["a", "b", "c", "d", "e", "f"].map(|n| TaskId::trusted(format!("task_{n}"))).to_vec();
    backend.refresh(&meta().id, &tasks, KEEP, SystemClock.wall()).await.unwrap();
    assert!(ttl(&mut connection, "group_g").await > 3_590);
    assert!(ttl(&mut connection, "task_a").await > 3_590);
    assert!(ttl(&mut connection, "task_b").await <= 60);
    assert!(ttl(&mut connection, "task_c").await <= 1_900, "more than half of the time is left");
    assert_eq!(ttl(&mut connection, "task_d").await, -1, "what never expires stays so");
    assert!(ttl(&mut connection, "task_e").await <= 60);
    assert_eq!(get(&mut connection, "task_a").await, Some(state("task_a", "SUCCESS")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_machinerys_lock_is_taken_and_given_back() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let link = cluster.link().await;
    let backend = Backend::new(cluster.link().await);
    let on_mutex = async |parts: &[&str]| {
        let mut command = redis::cmd(parts[0]);
        command.arg(MUTEX).arg(&parts[1..]);
        link.command(Access::Write, &command).await.unwrap()
    };
    backend.put_group(&meta(), KEEP, SystemClock.wall()).await.unwrap();
    on_mutex(&["SET", "another's", "PX", "8000"]).await;
    assert_eq!(trigger(&backend, "m").await, Triggered::Busy);
    assert_eq!(on_mutex(&["GET"]).await, redis::Value::BulkString(b"another's".to_vec()), "it is not taken away");
    on_mutex(&["DEL"]).await;
    assert_eq!(trigger(&backend, "m").await, Triggered::Ours);
    assert_eq!(on_mutex(&["EXISTS"]).await, redis::Value::Int(0));
    assert_eq!(trigger(&backend, "n").await, Triggered::Theirs);
    assert_eq!(on_mutex(&["EXISTS"]).await, redis::Value::Int(0));
}
