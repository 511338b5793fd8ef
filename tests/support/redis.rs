//! A Redis of a test's own: started on a socket in a directory of its own, ended by its process id.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lineshaft::link::redis::{Address, Link, Options};

use super::until::until;

/// What ends a server whose test was itself killed: it waits for the end of our input, which the system closes.
const GUARD: &str = r#"redis-server "$@" >/dev/null 2>&1 & server=$!; cat >/dev/null; kill -9 "$server" 2>/dev/null"#;

/// A server. Killed when dropped, and when the process of the test ends in whatever way.
#[derive(Debug)]
pub struct Redis {
    guard: Child,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
}

impl Redis {
    /// Why no server can be started; `None`: one can.
    pub fn missing() -> Option<&'static str> {
        let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) { None } else { Some("redis-server is not installed") }
    }

    /// Starts a server without persistence; `arguments` may say otherwise.
    pub async fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let guard = spawn(&directory, &arguments);
        let redis = Self { guard, arguments, directory };
        redis.link().await;
        redis
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis+socket://{}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// A link to it, once it answers.
    pub async fn link(&self) -> Link {
        self.link_with(Options { answer_max: Duration::from_secs(2), ..Options::default() }).await
    }

    /// A link with these options.
    pub async fn link_with(&self, options: Options) -> Link {
        let address = Address::parse(&self.url()).unwrap();
        until("redis-server listens", async || Link::open(address.clone(), options.clone()).await.ok()).await
    }

    /// A plain connection, for commands of the test's own.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis+unix://{}", self.socket().display())).unwrap();
        until("redis-server listens", async || client.get_multiplexed_async_connection().await.ok()).await
    }

    /// The process id of the server.
    pub async fn pid(&self) -> u32 {
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut self.connection().await).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        line.unwrap().parse().unwrap()
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().unwrap();
    }

    /// Starts it again after its end, on the same socket and directory.
    pub async fn restart(&mut self) {
        self.guard = spawn(&self.directory, &self.arguments);
        self.connection().await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // An error says that it is gone.
        let _ = self.guard.wait();
    }
}

fn spawn(directory: &tempfile::TempDir, arguments: &[String]) -> Child {
    let path = directory.path().to_str().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "guard", "--port", "0", "--unixsocket", &format!("{path}/redis.sock")]);
    command.args(["--dir", path, "--save", "", "--appendonly", "no", "--logfile", ""]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}
