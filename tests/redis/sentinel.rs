//! Sentinels: a master that dies, one that was demoted, sentinels that are gone.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use lineshaft::broker::redis::Options;
use lineshaft::broker::{Broker as _, Published, Settle};
use lineshaft::link::redis::{Address, Link, Login, Options as LinkOptions};

use crate::support::redis_sentinel::Sentinels;
use crate::support::until;
use crate::world::*;

/// Less than the 20 s for which Redis waits: two seconds until an answer is missed, and some for a busy machine.
const WOKEN_MAX: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_master_dies_its_replica_carries_on() {
    needs_redis!();
    let mut group = Sentinels::start().await;
    let broker = on(group.link().await, Options::default()).await;
    publish(&broker, &labels("m", 60)).await;
    let held = take(&broker, 20).await;
    until("the replica has it all", async || {
        let [master, replica] = [&group.servers[0], &group.servers[1]];
        let (a, b) = (master.connection().await, replica.connection().await);
        let mut sizes = Vec::new();
        for mut connection in [a, b] {
            sizes.push((
                length(&mut connection, "q").await,
                redis::cmd("DBSIZE").query_async::<u64>(&mut connection).await.unwrap(),
            ));
        }
        (sizes[0] == sizes[1]).then_some(())
    })
    .await;
    // One sentinel less, and still a majority.
    group.kill_sentinel(0);
    group.servers[0].kill();
    let begun = Instant::now();
    until("a send succeeds again", async || {
        (broker.publish(&[message("after")]).await[0] == Ok(Published::New)).then_some(())
    })
    .await;
    println!("without service for {:?}", begun.elapsed());
    // What was held meanwhile is held still, and its end is accepted.
    let acked: Vec<_> = held.iter().map(|delivery| (delivery.receipt.clone(), Settle::Ack)).collect();
    let answers = broker.settle(&acked).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let mut ended: Vec<String> = drain(&broker, 41).await.iter().map(text).collect();
    ended.sort();
    ended.retain(|label| label != "after");
    assert_eq!(ended, labels("m", 60)[20..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_on_a_master_that_stands_still_is_woken_by_the_next_one() {
    needs_redis!();
    let group = Sentinels::start().await;
    let (broker, other) =
        (on(group.link().await, Options::default()).await, on(group.link().await, Options::default()).await);
    let master = Pid::from_raw(group.servers[0].pid().await.try_into().unwrap()).unwrap();
    // Woken for nothing it waits again, as a dispatcher does.
    let waiting = until("it takes", async || {
        broker.ready(&queue("q"), &[]).await.ok()?;
        take(&broker, 1).await.pop()
    });
    let moving = async {
        until("it waits at the master", async || {
            let mut connection = group.servers[0].connection().await;
            let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
            clients.contains("cmd=blmove").then_some(())
        })
        .await;
        kill_process(master, Signal::STOP).unwrap();
        until("a send succeeds again", async || {
            (other.publish(&[message("after")]).await[0] == Ok(Published::New)).then_some(())
        })
        .await;
        Instant::now()
    };
    let (taken, begun) = tokio::join!(waiting, moving);
    println!("woken after {:?}", begun.elapsed());
    assert!(begun.elapsed() < WOKEN_MAX, "{:?}", begun.elapsed());
    assert_eq!(text(&taken), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_demoted_is_left() {
    needs_redis!();
    let group = Sentinels::start().await;
    let broker = on(group.link().await, Options::default()).await;
    publish(&broker, &labels("m", 1)).await;
    let client = redis::Client::open(group.first_sentinel()).unwrap();
    let mut sentinel = client.get_multiplexed_async_connection().await.unwrap();
    until("the sentinels take another", async || {
        redis::cmd("SENTINEL").arg("FAILOVER").arg("mymaster").exec_async(&mut sentinel).await.ok()
    })
    .await;
    until("the other is the master", async || {
        // It closes its connections when it becomes the master.
        let mut replica = group.servers[1].connection().await;
        let info: String = redis::cmd("INFO").arg("replication").query_async(&mut replica).await.ok()?;
        info.contains("role:master").then_some(())
    })
    .await;
    until("a send succeeds again", async || {
        (broker.publish(&[message("after")]).await[0] == Ok(Published::New)).then_some(())
    })
    .await;
    let mut new = group.servers[1].connection().await;
    until("it is on the new master", async || (length(&mut new, "q").await >= 1).then_some(())).await;
    assert!(drain(&broker, 2).await.iter().any(|delivery| text(delivery) == "after"));
}

#[tokio::test]
async fn what_no_sentinel_knows_is_told_at_start() {
    needs_redis!();
    let group = Sentinels::start().await;
    let mut options = Sentinels::options();
    options.master_name = Some("other".to_owned());
    let address = Address::parse(&group.url()).unwrap();
    let error = Link::open(address, options).await.unwrap_err().to_string();
    assert!(error.contains("no sentinel names the master other") && error.contains("knows no master"), "{error}");
    let begun = Instant::now();
    let gone = Address::parse("redis://127.0.0.1:1,127.0.0.1:2").unwrap();
    let error = Link::open(gone, Sentinels::options()).await.unwrap_err().to_string();
    assert!(error.contains("no sentinel names the master mymaster"), "{error}");
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_with_a_password_of_their_own_are_asked_with_it() {
    needs_redis!();
    let group = Sentinels::start().await;
    let client = redis::Client::open(group.first_sentinel()).unwrap();
    let mut sentinel = client.get_multiplexed_async_connection().await.unwrap();
    run(&mut sentinel, &["ACL", "SETUSER", "me", "on", ">other-word", "~*", "&*", "+@all"]).await;
    run(&mut sentinel, &["ACL", "SETUSER", "default", "resetpass", ">pass-word"]).await;
    let open = async |user: Option<&str>, password: Option<&str>| {
        let sentinel = Login { user: user.map(Into::into), password: password.map(Into::into) };
        let options = LinkOptions { sentinel, ..Sentinels::options() };
        Link::open(Address::parse(&group.first_sentinel()).unwrap(), options).await.map_err(|error| error.to_string())
    };
    assert!(open(None, Some("pass-word")).await.is_ok());
    assert!(open(Some("me"), Some("other-word")).await.is_ok());
    let told = open(None, None).await.unwrap_err();
    assert!(told.contains("NOAUTH") && told.contains("redis.sentinel_password"), "{told}");
    let told = open(None, Some("wrong-word")).await.unwrap_err();
    assert!(told.contains("it does not accept the user or password") && !told.contains("-word"), "{told}");
}
