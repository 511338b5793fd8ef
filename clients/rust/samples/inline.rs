//! Functions tested without a server: what a test does, as a program.

use lineshaft_client::proto::TaskStatus;
use lineshaft_client::{Context, Failure, Task, Worker, WorkerBuilder};

/// What the worker of the program runs, and what its tests run.
fn functions(builder: WorkerBuilder) -> WorkerBuilder {
    builder.register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) }).register(
        "third_time",
        |context: Context| async move {
            if context.attempt() < 3 {
                return Err(Failure::new("not yet"));
            }
            Ok("lucky".to_owned())
        },
    )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The program itself: functions(Worker::builder("http://127.0.0.1:7340")).build()?.run().await
    let inline = functions(Worker::builder("nowhere")).inline()?;
    let sum = inline.run(Task::new("add").arg(1i64).arg(2i64)).await?;
    assert_eq!(sum.results_as::<i64>()?, 3);

    let once = inline.run(Task::new("third_time").retry(2)).await?;
    assert_eq!((once.status, once.error.as_str()), (TaskStatus::Retry, "not yet"));
    let state = inline.with_retries().run(Task::new("third_time").retry(2)).await?;
    assert_eq!(state.results_as::<String>()?, "lucky");
    println!("{} in attempt {}", state.results_as::<String>()?, state.attempt);
    Ok(())
}
