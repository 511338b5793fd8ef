//! A struct as argument and as result, as JSON in a string; producer and worker in one program.

use std::time::Duration;

use lineshaft_client::{Client, Failure, Json, Task, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    items: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Parcel {
    order: u64,
    pieces: usize,
}

async fn pack(Json(order): Json<Order>) -> Result<Json<Parcel>, Failure> {
    Ok(Json(Parcel { order: order.id, pieces: order.items.len() }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;
    let worker = Worker::builder(&client).register("pack", pack).build()?;
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());

    let order = Order { id: 7, items: vec!["tea".into(), "cup".into()] };
    let result = client.send(Task::new("pack").arg(Json(order))).await?;
    let Json(parcel) = result.get::<Json<Parcel>>(Duration::from_secs(30)).await?;
    println!("order {}: {} pieces", parcel.order, parcel.pieces);
    stopper.stop();
    working.await??;
    Ok(())
}
