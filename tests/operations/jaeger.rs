//! A Jaeger of this test's own: in memory, on free ports of the loopback address.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::http::get;
use crate::support::until;

/// Where it listens for what nobody here uses, and must be told all the same.
const UNUSED_TCP: [&str; 5] = [
    "--collector.otlp.http.host-port",
    "--query.grpc-server.host-port",
    "--collector.grpc-server.host-port",
    "--collector.http-server.host-port",
    "--http-server.host-port",
];
const UNUSED_UDP: [&str; 3] = [
    "--processor.jaeger-binary.server-host-port",
    "--processor.jaeger-compact.server-host-port",
    "--processor.zipkin-compact.server-host-port",
];

/// A running Jaeger. Killed when dropped.
pub(crate) struct Jaeger {
    child: Child,
    otlp: SocketAddr,
    query: SocketAddr,
}

/// Ports that are free, all held at once so that they differ.
fn free_tcp<const N: usize>() -> [SocketAddr; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

fn free_udp<const N: usize>() -> [SocketAddr; N] {
    let held = [(); N].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|socket| socket.local_addr().unwrap())
}

impl Jaeger {
    /// Starts the program, and waits until it answers.
    pub(crate) async fn start(program: &Path) -> Self {
        let [otlp, query, admin, unused @ ..] = free_tcp::<8>();
        let udp = free_udp::<3>();
        let mut command = Command::new(program);
        command
            .arg(format!("--collector.otlp.grpc.host-port={otlp}"))
            .arg(format!("--query.http-server.host-port={query}"))
            .arg(format!("--admin.http.host-port={admin}"))
            .args(UNUSED_TCP.iter().zip(unused).map(|(flag, addr)| format!("{flag}={addr}")))
            .args(UNUSED_UDP.iter().zip(udp).map(|(flag, addr)| format!("{flag}={addr}")))
            .arg("--log-level=error")
            .env("SPAN_STORAGE_TYPE", "memory")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let jaeger = Self { child: command.spawn().unwrap(), otlp, query };
        until("Jaeger answers", async || get(admin, "/").filter(|(status, _)| *status == 200)).await;
        jaeger
    }

    /// Where it takes spans.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.otlp)
    }

    /// The spans of a trace, by operation, and within one by when they began. Empty: there is no such trace.
    pub(crate) fn trace(&self, id: &str) -> Spans {
        let Some((200, body)) = get(self.query, &format!("/api/traces/{id}")) else { return Spans::default() };
        let answer: Value = serde_json::from_str(&body).unwrap();
        let trace = &answer["data"][0];
        let mut spans = Spans::default();
        for span in trace["spans"].as_array().unwrap() {
            let process = &trace["processes"][span["processID"].as_str().unwrap()];
            let span = Span { json: span.clone(), service: process["serviceName"].as_str().unwrap().to_owned() };
            spans.0.entry(span.name().to_owned()).or_default().push(span);
        }
        spans.0.values_mut().for_each(|spans| spans.sort_by_key(Span::start));
        spans
    }

    /// The spans of a trace, once there are so many.
    pub(crate) async fn whole(&self, id: &str, count: usize) -> Spans {
        let what = format!("{count} spans of trace {id}");
        let spans = until(&what, async || Some(self.trace(id)).filter(|spans| spans.count() >= count)).await;
        assert_eq!(spans.count(), count, "{spans:#?}");
        spans
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The spans of a trace.
#[derive(Debug, Default)]
pub(crate) struct Spans(BTreeMap<String, Vec<Span>>);

impl Spans {
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(crate) fn names(&self) -> Vec<(&str, usize)> {
        self.0.iter().map(|(name, spans)| (name.as_str(), spans.len())).collect()
    }

    /// The `n`th of that operation, from 0.
    #[track_caller]
    pub(crate) fn of(&self, name: &str, n: usize) -> &Span {
        self.0.get(name).and_then(|spans| spans.get(n)).unwrap_or_else(|| panic!("{name} {n}: {self:#?}"))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Span> {
        self.0.values().flatten()
    }
}

/// A span as the query API tells it.
#[derive(Debug)]
pub(crate) struct Span {
    json: Value,
    pub(crate) service: String,
}

impl Span {
    pub(crate) fn name(&self) -> &str {
        self.json["operationName"].as_str().unwrap()
    }

    pub(crate) fn id(&self) -> &str {
        self.json["spanID"].as_str().unwrap()
    }

    /// The span it is a child of.
    pub(crate) fn parent(&self) -> Option<&str> {
        let references = self.json["references"].as_array()?;
        references.iter().find(|r| r["refType"] == "CHILD_OF").and_then(|r| r["spanID"].as_str())
    }

    /// When it began, microseconds.
    pub(crate) fn start(&self) -> u64 {
        self.json["startTime"].as_u64().unwrap()
    }

    /// When it ended, microseconds.
    pub(crate) fn end(&self) -> u64 {
        self.start() + self.json["duration"].as_u64().unwrap()
    }

    /// An attribute; null: there is none.
    pub(crate) fn tag(&self, key: &str) -> &Value {
        let tags = self.json["tags"].as_array().unwrap();
        tags.iter().find(|tag| tag["key"] == key).map_or(&Value::Null, |tag| &tag["value"])
    }

    /// The names of its events.
    pub(crate) fn events(&self) -> Vec<&str> {
        let logs = self.json["logs"].as_array().unwrap();
        logs.iter().flat_map(|log| log["fields"].as_array().unwrap()).filter_map(|f| f["value"].as_str()).collect()
    }
}
