//! A task whose attempts may run for a second: its function is told to stop, and says how far it came; producer and worker in
//! one program.

use std::time::Duration;

use lineshaft_client::{Client, Context, Failure, Task, Worker};

async fn crunch(context: Context) -> Result<u32, Failure> {
    let mut steps = 0;
    while !context.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        steps += 1;
    }
    Err(Failure::new(format!("told to stop after {steps} steps")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;
    let worker = Worker::builder(&client).register("crunch", crunch).build()?;
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());

    let task = Task::new("crunch").attempt_timeout(Duration::from_secs(1));
    let state = client.send(task).await?.wait(Duration::from_secs(30)).await?;
    println!("{:?}: {}", state.status, state.error);
    stopper.stop();
    working.await??;
    Ok(())
}
