//! A Redis of a test's own: started on a socket in a directory of its own, ended by its process id.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lineshaft::link::redis::{Address, Link, Options};

use super::until::until;

/// What ends a server whose test was itself killed: it waits for the end of our input, which the system closes.
const GUARD: &str = r#"redis-server "$@" >/dev/null 2>&1 & server=$!; cat >/dev/null; kill -9 "$server" 2>/dev/null
wait; [ -z "$REMOVE" ] || rm -rf "$REMOVE""#;

/// A server. Killed when dropped, and when the process of the test ends in whatever way.
#[derive(Debug)]
pub struct Redis {
    guard: Child,
    arguments: Vec<String>,
    /// The database of its address.
    database: u32,
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
        let guard = spawn(&directory, &arguments, false);
        let redis = Self { guard, arguments, database: 0, directory };
        redis.link().await;
        redis
    }

    /// Starts a server that may live as long as the process of the test, which drops nothing when it ends: what ends the
    /// server then removes its directory, too.
    pub async fn start_kept(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let guard = spawn(&directory, &arguments, true);
        let redis = Self { guard, arguments, database: 0, directory };
        redis.connection().await;
        redis
    }

    /// The same, its address with a database.
    pub fn in_database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// Its address, with the password that `--requirepass` gave it.
    pub fn url(&self) -> String {
        let login = self.password().map(|password| format!("{password}@")).unwrap_or_default();
        format!("redis+socket://{login}{}:/{}", self.socket().display(), self.database)
    }

    fn password(&self) -> Option<&str> {
        let mut arguments = self.arguments.iter();
        arguments.find(|argument| *argument == "--requirepass")?;
        arguments.next().map(String::as_str)
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
        let pass = self.password().map(|password| format!("&pass={password}")).unwrap_or_default();
        let url = format!("redis+unix://{}?db={}{pass}", self.socket().display(), self.database);
        let client = redis::Client::open(url).unwrap();
        // Half a second, the default, is little on a busy machine.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(super::until::DEADLINE));
        let connect = async || client.get_multiplexed_async_connection_with_config(&config).await.ok();
        until("redis-server listens", connect).await
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
        self.guard = spawn(&self.directory, &self.arguments, false);
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

fn spawn(directory: &tempfile::TempDir, arguments: &[String], removes: bool) -> Child {
    let path = directory.path().to_str().unwrap();
    let mut command = guarded(if removes { path } else { "" });
    command.args(["--port", "0", "--unixsocket", &format!("{path}/redis.sock")]);
    command.args(["--dir", path, "--save", "", "--appendonly", "no", "--logfile", ""]);
    command.args(arguments).spawn().unwrap()
}

/// What starts a server that ends when its input does; then `removed` is removed.
pub fn guarded(removed: &str) -> Command {
    let mut command = Command::new("sh");
    command.env("REMOVE", removed).args(["-c", GUARD, "guard"]).stdin(Stdio::piped()).stdout(Stdio::null());
    command
}
