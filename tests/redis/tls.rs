//! `rediss://`: a certificate that nobody vouches for is refused with a sentence, and ends nothing else.

use lineshaft::link::redis::{Address, Link, Options};

use crate::support::redis::Redis;
use crate::support::redis_cluster::free_port;
use crate::world::*;

#[tokio::test]
async fn an_unknown_certificate_is_told_at_start() {
    needs_redis!();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (key, certificate, port) = (path("key.pem"), path("certificate.pem"), free_port().to_string());
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-keyout", &key, "-out", &certificate]);
    let Ok(made) = openssl.output() else {
        println!("skipped: openssl is not installed");
        return;
    };
    assert!(made.status.success(), "{made:?}");
    let arguments = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let arguments = [&arguments[..], &["--tls-auth-clients", "no", "--bind", "127.0.0.1"]].concat();
    let _redis = Redis::start(&arguments).await;
    let address = Address::parse(&format!("rediss://localhost:{port}")).unwrap();
    let error = Link::open(address, Options::default()).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}
