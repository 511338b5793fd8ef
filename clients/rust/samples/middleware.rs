//! Middleware around each attempt: one that times, one that refuses; producer and worker in one program.

use std::time::Duration;

use lineshaft_client::proto::Arg;
use lineshaft_client::{Client, Context, Failure, Next, Results, Task, Worker};

async fn timed(context: Context, args: Vec<Arg>, next: Next) -> Result<Results, Failure> {
    let began = tokio::time::Instant::now();
    let name = context.task_name().to_owned();
    let outcome = next.run(context, args).await;
    let how = if outcome.is_ok() { "succeeded" } else { "failed" };
    println!("{name} {how}, in under {} s", began.elapsed().as_secs() + 1);
    outcome
}

async fn known_tenants_only(context: Context, args: Vec<Arg>, next: Next) -> Result<Results, Failure> {
    match context.header("tenant") {
        Some(tenant) if tenant == "acme" => next.run(context, args).await,
        _ => Err(Failure::fatal("no such tenant")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7340".into());
    let client = Client::connect(address).await?;
    let worker = Worker::builder(&client)
        .middleware(timed)
        .middleware(known_tenants_only)
        .register("greet", |name: String| async move { Ok::<_, Failure>(format!("hello, {name}")) })
        .build()?;
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());

    let greeting = client.send(Task::new("greet").arg("Ada").header("tenant", "acme")).await?;
    println!("{}", greeting.get::<String>(Duration::from_secs(30)).await?);
    let refused = client.send(Task::new("greet").arg("Bob")).await?;
    if let Err(error) = refused.get::<String>(Duration::from_secs(30)).await {
        println!("{error}");
    }
    stopper.stop();
    working.await??;
    Ok(())
}
