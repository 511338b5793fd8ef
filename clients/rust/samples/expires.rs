//! A task that is only good for a moment: nobody begins it in time, so it ends as expired.

use std::time::Duration;

use lineshaft_client::{Client, Task};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;
    let task = Task::new("notify").arg("ada").expires_in(Duration::from_secs(1));
    let state = client.send(task).await?.wait(Duration::from_secs(30)).await?;
    println!("{:?}: {}", state.status, state.error);
    Ok(())
}
