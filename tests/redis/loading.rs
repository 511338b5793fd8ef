//! A Redis that was started a moment ago and still reads its data.

use lineshaft::link::redis::{Access, Address, Link, Options};

use crate::support::redis::Redis;
use crate::support::until::until;

/// Keys that each take their time to be read: two seconds in all, with a look at its connections each thousand.
const KEYS: usize = 8_192;
const SLOW: &[&str] =
    &["--appendonly", "yes", "--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024"];

#[tokio::test]
async fn a_start_waits_for_a_redis_that_reads_its_data() {
    if let Some(why) = Redis::missing() {
        println!("skipped: {why}");
        return;
    }
    let mut redis = Redis::start(SLOW).await;
    let mut sets = redis::pipe();
    for key in 0..KEYS {
        sets.cmd("SET").arg(key).arg("value").ignore();
    }
    sets.query_async::<()>(&mut redis.connection().await).await.unwrap();
    redis.kill();
    redis.restart().await;
    let ping = redis::cmd("PING");
    let mut plain = redis.connection().await;
    let said = until("it says that it is loading", async || ping.query_async::<String>(&mut plain).await.err()).await;
    assert_eq!(said.code(), Some("LOADING"), "{said}");

    // It was loading a moment ago, and has everything once the link is open.
    let address = Address::parse(&redis.url()).unwrap();
    let link = Link::open(address, Options::default()).await.unwrap();
    let size = link.command(Access::Read, &redis::cmd("DBSIZE")).await.unwrap();
    assert_eq!(size, redis::Value::Int(KEYS as i64));
}
