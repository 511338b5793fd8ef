//! Works tasks until Ctrl-C.

use std::collections::HashMap;
use std::time::Duration;

use lineshaft_client::{Context, Failure, Function, Worker};

async fn add(a: i64, b: i64) -> Result<i64, Failure> {
    Ok(a + b)
}

/// Not async: it may block, and keeps its lease all the same.
fn count_primes(below: u32) -> Result<u64, Failure> {
    let is_prime = |number: &u32| (2..*number).take_while(|d| d * d <= *number).all(|d| !number.is_multiple_of(d));
    Ok((2..below).filter(is_prime).count() as u64)
}

async fn slow(context: Context, steps: u32) -> Result<(), Failure> {
    for step in 0..steps {
        context.progress(f64::from(step) / f64::from(steps), format!("step {step}"));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = context.cancelled() => return Err(Failure::new("the lease is gone")),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let others = HashMap::from([("count_primes", Function::blocking(count_primes)), ("slow", Function::new(slow))]);
    let worker = Worker::builder(address)
        .concurrency(4)
        .register("add", add)
        .register_all(others)
        .on_failure(|context, failure| async move {
            println!("{} failed for good: {}", context.task_id(), failure.message());
        })
        .build()?;
    println!("{:?}", worker.run().await?);
    Ok(())
}
