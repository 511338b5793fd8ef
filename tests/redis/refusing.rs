//! Redis that refuses all writes for a while, or stands still: what was written is told for what it is.

use lineshaft::broker::{Broker as _, Published};
use lineshaft::error::StoreError;
use lineshaft::link::redis::{Address, Link, Options};

use crate::support::redis::Redis;
use crate::support::until;
use crate::world::*;

async fn sends_again(broker: &lineshaft::broker::redis::Broker, label: &str) {
    until("a send succeeds again", async || {
        (broker.publish(&[message(label)]).await[0] == Ok(Published::New)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_refuses_and_nothing_is_written() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let mut connection = redis.connection().await;
    publish(&broker, &labels("m", 1)).await;
    // Nobody listens there: it keeps what it has.
    run(&mut connection, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let answer = broker.publish(&[message("x")]).await;
    assert!(matches!(answer[0], Err(StoreError::Unavailable { .. })), "{answer:?}");
    run(&mut connection, &["REPLICAOF", "NO", "ONE"]).await;
    sends_again(&broker, "y").await;
    let mut ended: Vec<String> = drain(&broker, 2).await.iter().map(text).collect();
    ended.sort();
    assert_eq!(ended, ["m00000", "y"]);
    nothing_is_left(&mut connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_that_it_must_write_nothing_is_written() {
    needs_redis!();
    // A save that cannot be written, as its directory is none.
    let redis = Redis::start(&["--stop-writes-on-bgsave-error", "yes", "--enable-protected-configs", "yes"]).await;
    let broker = replica(&redis).await;
    let mut connection = redis.connection().await;
    let directory = redis.socket().with_file_name("gone");
    std::fs::create_dir(&directory).unwrap();
    run(&mut connection, &["CONFIG", "SET", "dir", directory.to_str().unwrap()]).await;
    std::fs::remove_dir(&directory).unwrap();
    run(&mut connection, &["CONFIG", "SET", "save", "3600 1000000"]).await;
    run(&mut connection, &["BGSAVE"]).await;
    until("the save has failed", async || {
        let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut connection).await.unwrap();
        info.contains("rdb_last_bgsave_status:err").then_some(())
    })
    .await;
    let answer = broker.publish(&[message("x")]).await;
    assert!(matches!(answer[0], Err(StoreError::Unavailable { .. })), "{answer:?}");
    assert!(answer[0].as_ref().is_err_and(|error| error.to_string().contains("MISCONF")), "{answer:?}");
    run(&mut connection, &["CONFIG", "SET", "save", ""]).await;
    sends_again(&broker, "y").await;
    assert_eq!(drain(&broker, 1).await.iter().map(text).collect::<Vec<_>>(), ["y"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_leaves_it_unknown() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let mut connection = redis.connection().await;
    // Longer than an answer is waited for.
    run(&mut connection, &["CLIENT", "PAUSE", "3000", "WRITE"]).await;
    let answer = broker.publish(&[message("x")]).await;
    assert!(matches!(answer[0], Err(StoreError::OutcomeUnknown { .. })), "{answer:?}");
    sends_again(&broker, "y").await;
    assert!(drain(&broker, 1).await.iter().any(|delivery| text(delivery) == "y" || text(delivery) == "x"));
}

#[tokio::test]
async fn a_wrong_password_is_told_at_start() {
    needs_redis!();
    let redis =
        Redis::start(&["--requirepass", "secret", "--user", "worker", "on", ">other", "~*", "&*", "+@all"]).await;
    let socket = redis.socket();
    let open = async |login: &str| {
        let address = Address::parse(&format!("redis+socket://{login}{}", socket.display())).unwrap();
        Link::open(address, Options::default()).await
    };
    let error = open("wrong@").await.unwrap_err().to_string();
    assert!(error.contains("cannot be used") && !error.contains("wrong@"), "{error}");
    assert!(open("secret@").await.is_ok());
    assert!(open("worker:other@").await.is_ok());
    assert!(open("worker:secret@").await.is_err());
}
