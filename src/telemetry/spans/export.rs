//! Taking spans from the queue to a collector, until the server has drained.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Spans;
use crate::config::Telemetry;

/// How long a server that has drained goes on exporting what waits.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// The export of a running server.
#[derive(Debug)]
pub struct Exporter {
    /// Where its spans are recorded.
    pub spans: Spans,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Exporter {
    /// Exports what waits, for at most 5 s; what is left is dropped.
    pub async fn finish(self) {
        let Some((stop, running)) = self.running else { return };
        // A loop that has ended needs no telling.
        let _ = stop.send(());
        let abort = running.abort_handle();
        if tokio::time::timeout(FLUSH_MAX, running).await.is_err() {
            abort.abort();
            tracing::warn!("spans that still waited are dropped: the collector did not take them in time");
        }
    }
}

/// Whether spans can be exported there.
///
/// # Errors
/// Why not, as the end of a sentence that begins with the key.
pub fn check_endpoint(endpoint: &str) -> Result<(), String> {
    const FORM: &str = "must be http://HOST:PORT, the address where a collector takes OTLP over gRPC";
    let uri: http::Uri = endpoint.parse().map_err(|_| FORM.to_owned())?;
    if uri.scheme_str() == Some("https") {
        return Err("must begin with http://: this version has no TLS".to_owned());
    }
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if uri.scheme_str() != Some("http") || uri.port_u16().is_none() || authority.contains('@') || uri.query().is_some()
    {
        return Err(FORM.to_owned());
    }
    if cfg!(feature = "otlp") {
        Ok(())
    } else {
        Err("needs the feature `otlp`, which this build does not have".to_owned())
    }
}

/// Begins to export, if an endpoint is configured. Needs a runtime. Connects when there is something to export.
///
/// # Errors
/// A sentence, if it cannot.
#[cfg(feature = "otlp")]
pub fn start(config: &Telemetry) -> Result<Exporter, String> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(Exporter { spans: Spans::off(), running: None }) };
    let (spans, receiver) = Spans::on(config.sample_ratio);
    let exporter = super::otlp::exporter(endpoint, &config.service_name)?;
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(super::otlp::run(exporter, spans.clone(), receiver, stopped));
    Ok(Exporter { spans, running: Some((stop, running)) })
}

/// Refuses an endpoint: this build exports nothing.
///
/// # Errors
/// A sentence, if an endpoint is configured.
#[cfg(not(feature = "otlp"))]
pub fn start(config: &Telemetry) -> Result<Exporter, String> {
    match &config.otlp_endpoint {
        None => Ok(Exporter { spans: Spans::off(), running: None }),
        Some(endpoint) => check_endpoint(endpoint).map(|()| Exporter { spans: Spans::off(), running: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_without_tls_and_secrets() {
        let is_good = check_endpoint("http://127.0.0.1:4317").is_ok();
        assert_eq!(is_good, cfg!(feature = "otlp"));
        for bad in
            ["", "127.0.0.1:4317", "https://h:1", "http://h", "http://user:secret@h:1", "http://h:1?a=b", "grpc://h:1"]
        {
            let why = check_endpoint(bad).unwrap_err();
            assert!(why.starts_with("must") && !why.contains("secret"), "{bad}: {why}");
        }
    }
}
