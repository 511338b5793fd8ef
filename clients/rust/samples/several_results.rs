//! A task with several results; producer and worker in one program.

use std::time::Duration;

use lineshaft_client::{Client, Failure, Task, Worker};

async fn divide(a: i64, b: i64) -> Result<(i64, i64), Failure> {
    let quotient = a.checked_div(b).ok_or(Failure::fatal("divided by zero"))?;
    Ok((quotient, a - quotient * b))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;
    let worker = Worker::builder(&client).register("divide", divide).build()?;
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());

    let result = client.send(Task::new("divide").arg(17i64).arg(5i64)).await?;
    let (quotient, rest): (i64, i64) = result.get(Duration::from_secs(30)).await?;
    println!("17 / 5 = {quotient}, rest {rest}");
    stopper.stop();
    working.await??;
    Ok(())
}
