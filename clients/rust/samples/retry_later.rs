//! A task that asks for another attempt until something is ready; producer and worker in one program.

use std::time::Duration;

use lineshaft_client::{Client, Context, Failure, Task, Worker};

async fn fetch(context: Context, what: String) -> Result<String, Failure> {
    if context.attempt() < 3 {
        // Costs no retry.
        return Err(Failure::retry_later(Duration::from_millis(500), "not ready"));
    }
    Ok(format!("{what} after {} attempts", context.attempt()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;
    let worker = Worker::builder(&client).register("fetch", fetch).build()?;
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());

    let result = client.send(Task::new("fetch").arg("report")).await?;
    println!("{}", result.get::<String>(Duration::from_secs(30)).await?);
    stopper.stop();
    working.await??;
    Ok(())
}
