//! Sends tasks that run one behind the other. Needs a server, and a worker with `add` and `multiply`.

use std::time::Duration;

use lineshaft_client::{Chain, Client, Task};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".to_owned());
    let client = Client::connect(server).await?;

    // (1 + 2) * 10: the result of each task comes behind the next one's own arguments.
    let chain = Chain::new([Task::new("add").arg(1i64).arg(2i64), Task::new("multiply").arg(10i64)]);
    let chain = client.send_chain(chain).await?;
    println!("{}", chain.get::<i64>(Duration::from_secs(10)).await?);
    Ok(())
}
