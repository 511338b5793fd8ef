//! `pause`, `resume`: stop handing out the tasks of a queue, and go on.

use lineshaft_client::proto;
use proto::Queue;

use super::{Exit, Failure, Remote, exit, output, queues, remote};

/// Stop handing out the tasks of a queue: what runs goes on, what is sent waits. Survives restarts of the server.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Pause {
    #[command(flatten)]
    remote: Remote,
    /// Queue; it need not be known yet.
    #[arg(value_name = "QUEUE")]
    queue: String,
}

/// Hand out the tasks of a paused queue again.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Resume {
    #[command(flatten)]
    remote: Remote,
    /// Queue.
    #[arg(value_name = "QUEUE")]
    queue: String,
}

impl Pause {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.pause().await, json)
    }

    async fn pause(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let request = proto::PauseQueueRequest { queue: self.queue };
        let answer = connection.queues().pause_queue(remote::quick(request)).await?.into_inner();
        let queue = answer.queue.unwrap_or_default();
        tell(&self.remote, &queue, "paused")?;
        if queue.others_may_take {
            output::remark("other programs may take from this queue too; they do not know of the pause");
        }
        Ok(Exit::Ok)
    }
}

impl Resume {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.resume().await, json)
    }

    async fn resume(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let request = proto::ResumeQueueRequest { queue: self.queue };
        let answer = connection.queues().resume_queue(remote::quick(request)).await?.into_inner();
        tell(&self.remote, &answer.queue.unwrap_or_default(), "resumed")?;
        Ok(Exit::Ok)
    }
}

fn tell(remote: &Remote, queue: &Queue, done: &str) -> Result<(), Failure> {
    if remote.json {
        return output::line(&queues::to_json(queue).to_string());
    }
    let counts = format!("{} wait, {} are delayed, {} are leased", queue.waiting, queue.delayed, queue.leased);
    output::line(&format!("{}  {done}; {counts}", output::cell(&queue.name)))
}
