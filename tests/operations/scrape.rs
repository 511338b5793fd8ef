//! A page of metrics: fetched, read, and given to `promtool`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the suite tells the path of `promtool`.
const PROMTOOL: &str = "LINESHAFT_TEST_PROMTOOL";

/// The answer to `GET`: status, headers, body.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// A page: the value of each sample by its name and labels, as written.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) text: String,
    samples: BTreeMap<String, f64>,
}

impl Page {
    /// Fetches and reads it; no sample is told twice.
    pub(crate) async fn scrape(addr: SocketAddr) -> Self {
        let (status, head, text) = get(addr, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let before = samples.insert(series.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{series} is told twice");
        }
        Self { text, samples }
    }

    /// The value of a series.
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("{series} is not in\n{}", self.text))
    }

    /// The series that begin so.
    pub(crate) fn series(&self, prefix: &str) -> Vec<(&str, f64)> {
        let all = self.samples.iter().filter(|(series, _)| series.starts_with(prefix));
        all.map(|(series, value)| (series.as_str(), *value)).collect()
    }

    /// The sum of the series that begin so.
    pub(crate) fn sum(&self, prefix: &str) -> f64 {
        self.series(prefix).iter().map(|(_, value)| value).sum()
    }

    /// Whatever counts, with what it has counted.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&str, f64)> {
        let counts = |series: &str| {
            let name = series.split('{').next().unwrap_or_default();
            ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
        };
        self.samples.iter().filter(move |(series, _)| counts(series)).map(|(series, value)| (series.as_str(), *value))
    }

    /// Lets `promtool` check it, warnings too, where the suite has one.
    pub(crate) fn lint(&self) {
        let Some(promtool) = std::env::var_os(PROMTOOL) else {
            // Not `eprintln`, which the test runner keeps to itself when a test passes.
            drop(writeln!(std::io::stderr(), "skipped promtool: {PROMTOOL} is not set"));
            return;
        };
        let mut child = Command::new(promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(self.text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
