//! Sends tasks that run beside each other, and one behind them all. Needs a server, and a worker with `add` and `multiply`.

use std::time::Duration;

use lineshaft_client::{Chord, Client, Task};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".to_owned());
    let client = Client::connect(server).await?;

    // (1 + 1) * (2 + 2): the callback has the results of all, in the order of the tasks.
    let sums = [Task::new("add").arg(1i64).arg(1i64), Task::new("add").arg(2i64).arg(2i64)];
    let chord = client.send_chord(Chord::new(sums, Task::new("multiply"))).await?;
    println!("{}", chord.get::<i64>(Duration::from_secs(10)).await?);
    Ok(())
}
