//! Sends tasks, each in its own way. Run `work` beside it.

use std::time::Duration;

use lineshaft_client::{Client, Task};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;

    let sent = client.send(Task::new("add").arg(1i64).arg(2i64)).await?;
    println!("sent {}", sent.id());

    let later = Task::new("add").arg(3i64).arg(4i64).delay(Duration::from_secs(2)).retry(3).header("tenant", "a");
    println!("sent {} for later", client.send(later).await?.id());

    let many = (0..100).map(|number: i64| Task::new("add").arg(number).arg(number));
    let answers = client.send_all(many).await;
    println!("sent {} together", answers.iter().filter(|answer| answer.is_ok()).count());
    Ok(())
}
