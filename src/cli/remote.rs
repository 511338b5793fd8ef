//! The server a command talks to, and how its answer is printed: options that every command shares.

use std::time::Duration;

use lineshaft_client::proto;
use tonic::transport::{Channel, Endpoint};

use super::{Exit, Failure};

/// Options of every command that talks to a server.
#[derive(Debug, Clone, clap::Args)]
pub struct Remote {
    /// The server, as http://HOST:PORT or HOST:PORT.
    #[arg(long, env = "LINESHAFT_SERVER", default_value = "http://127.0.0.1:7340", value_name = "URL")]
    pub server: String,
    /// Print JSON, one object a line, for programs. Errors become an object on stderr.
    #[arg(long)]
    pub json: bool,
}

/// The time allowed to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two pings of a connection with a call on it, and the time allowed to the answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The time allowed to a call that does not wait for a task.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The time allowed to a call about all tasks of a group: there may be 100,000 of them.
const GROUP_TIMEOUT: Duration = Duration::from_secs(300);

/// The largest answer taken, bytes: a batch of states carries the results of each.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Open connection to a server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
}

impl Remote {
    /// The address with its scheme.
    pub fn url(&self) -> String {
        if self.server.contains("://") { self.server.clone() } else { format!("http://{}", self.server) }
    }

    /// Connects, at most 5 s long.
    ///
    /// # Errors
    /// [`Exit::Usage`] for an address that is none; [`Exit::Unavailable`] if nothing answers there.
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let url = self.url();
        if url.starts_with("https://") {
            return Err(Failure::usage(format!(
                "{url:?} asks for TLS, which this version does not speak; use http://"
            )));
        }
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|_| Failure::usage(format!("{url:?} is not an address such as http://127.0.0.1:7340")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // A server that vanished without a word is noticed while a call waits.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let channel = endpoint.connect().await.map_err(|error| {
            Failure::new(
                Exit::Unavailable,
                format!("no server answers at {url}: {}; `lineshaft serve` starts one", root_cause(&error)),
            )
        })?;
        Ok(Connection { channel })
    }
}

// tonic's own text is "transport error"; what went wrong is at the end of the chain.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl Connection {
    /// For producers.
    pub fn tasks(&self) -> proto::task_service_client::TaskServiceClient<Channel> {
        proto::task_service_client::TaskServiceClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// For operators.
    pub fn queues(&self) -> proto::queue_service_client::QueueServiceClient<Channel> {
        proto::queue_service_client::QueueServiceClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// For workers.
    pub fn workers(&self) -> proto::worker_service_client::WorkerServiceClient<Channel> {
        proto::worker_service_client::WorkerServiceClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// What the server is.
    pub fn server(&self) -> proto::server_service_client::ServerServiceClient<Channel> {
        proto::server_service_client::ServerServiceClient::new(self.channel.clone())
    }
}

/// A request with the time-out of a call that does not wait for a task.
pub fn quick<T>(message: T) -> tonic::Request<T> {
    within(message, CALL_TIMEOUT)
}

/// A request about all tasks of a group.
pub fn of_group<T>(message: T) -> tonic::Request<T> {
    within(message, GROUP_TIMEOUT)
}

/// A request with a time-out.
pub fn within<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}
