//! Sends a task and asks in several ways what became of it. Run `work` beside it.

use std::time::Duration;

use lineshaft_client::{Client, Error, Task};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;
    let result = client.send(Task::new("add").arg(1i64).arg(2i64)).await?;

    println!("now {:?}", result.state().await?.status);
    match result.get::<i64>(Duration::from_secs(10)).await {
        Ok(sum) => println!("sum {sum}"),
        Err(Error::TaskFailed(failure)) => println!("failed: {}", failure.message),
        Err(Error::Timeout { .. }) => println!("not yet; the task goes on"),
        Err(other) => return Err(other.into()),
    }
    println!("completed: {}", result.is_completed().await?);

    // By its id alone, from another process or a day later.
    let same = client.result(result.id());
    println!("success: {}", same.is_success().await?);
    Ok(())
}
