//! Sends tasks that run beside each other, and waits for all results. Needs a server, and a worker with `add`.

use std::time::Duration;

use lineshaft_client::{Client, Group, Task};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".to_owned());
    let client = Client::connect(server).await?;

    let tasks = (0..10i64).map(|n| Task::new("add").arg(n).arg(n));
    let group = client.send_group(Group::new(tasks)).await?;

    let mut watch = group.watch();
    while let Some(progress) = watch.next().await? {
        println!("{} of {} have ended", progress.ended, progress.total);
    }
    // In the order of the tasks; the first failure would be the error.
    let sums: Vec<i64> = group.get(Duration::from_secs(10)).await?;
    println!("{sums:?}");
    Ok(())
}
