//! `rediss://`, users and passwords: what is believed is used, what is not is told in a sentence that holds no secret.

use std::path::PathBuf;
use std::process::Command;

use lineshaft::broker::redis::Options as BrokerOptions;
use lineshaft::link::redis::{Address, Link, Options, Tls};

use crate::support::redis::Redis;
use crate::support::redis_cluster::free_port;
use crate::world::*;

/// A user of the test's servers, and its password.
const USER: [&str; 7] = ["--user", "me", "on", ">pass-word", "~*", "&*", "+@all"];

/// Authorities and what they vouch for, in files.
struct Certificates(tempfile::TempDir);

impl Certificates {
    /// `None`: there is no `openssl`.
    fn new() -> Option<Self> {
        let found = Command::new("openssl").arg("version").output();
        found.is_ok().then(|| Self(tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").current_dir(self.0.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An authority: `NAME.pem` and `NAME.key`.
    fn authority(&self, name: &str) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let of_key = ["-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &certificate];
        self.openssl(&[&["req", "-x509", "-days", "9", "-subj", "/CN=authority"], &of_key[..]].concat());
    }

    /// A certificate for `host`, good for so many days from now: `NAME.pem` and `NAME.key`.
    fn issued(&self, name: &str, host: &str, days: &str, authority: &str) {
        let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let of_key = ["-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &request];
        self.openssl(&[&["req", "-subj", "/CN=server"], &of_key[..]].concat());
        let extensions = format!("{name}.ext");
        std::fs::write(self.path(&extensions), format!("subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n"))
            .unwrap();
        let (issuer, issuer_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let by = ["-CA", &issuer, "-CAkey", &issuer_key, "-set_serial", "7", "-days", days, "-extfile", &extensions];
        self.openssl(&[&["x509", "-req", "-in", &request, "-out", &certificate], &by[..]].concat());
    }

    /// A server that shows the certificate `name`, and its port.
    async fn server(&self, name: &str, more: &[&str]) -> (Redis, u16) {
        let port = free_port();
        let (own, certificate, key) =
            (port.to_string(), self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        let arguments =
            ["--bind", "127.0.0.1", "--tls-port", &own, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        (Redis::start(&[&arguments[..], more, &USER].concat()).await, port)
    }
}

fn trusting(tls: Tls) -> Options {
    Options { tls, ..Options::default() }
}

async fn refusal(url: &str, options: Options) -> String {
    let address = Address::parse(url).unwrap();
    let told = Link::open(address, options).await.unwrap_err().to_string();
    assert!(!told.contains("-word"), "no password is told: {told}");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls_a_server_is_believed_only_with_a_certificate_that_holds() {
    needs_redis!();
    let Some(files) = Certificates::new() else {
        println!("skipped: openssl is not installed");
        return;
    };
    files.authority("ours");
    files.authority("other");
    files.issued("good", "localhost", "2", "ours");
    files.issued("elsewhere", "elsewhere.test", "2", "ours");
    files.issued("old", "localhost", "-1", "ours");
    let ours = || Tls { ca: Some(files.path("ours.pem")), own: None };
    let open = &["--tls-auth-clients", "no"];

    let (_good, port) = files.server("good", open).await;
    let url = format!("rediss://me:pass-word@localhost:{port}");
    let link = Link::open(Address::parse(&url).unwrap(), trusting(ours())).await.unwrap();
    // Each kind of connection: the shared one, those that listen, those that wait.
    let broker = on(link, BrokerOptions::default()).await;
    publish(&broker, &labels("m", 3)).await;
    assert_eq!(drain(&broker, 3).await.len(), 3);

    let told = refusal(&url, Options::default()).await;
    assert!(
        told.contains("not vouched for by an authority that is trusted") && told.contains("redis.tls_ca"),
        "{told}"
    );
    let told = refusal(&url, trusting(Tls { ca: Some(files.path("other.pem")), own: None })).await;
    assert!(told.contains("certificate"), "{told}");
    let told = refusal(&url, trusting(Tls { ca: Some(files.path("good.key")), own: None })).await;
    assert!(told.contains("good.key holds no certificate in PEM"), "{told}");
    let told = refusal(&url, trusting(Tls { ca: Some(files.path("nothing")), own: None })).await;
    assert!(told.contains("nothing cannot be read"), "{told}");
    let told = refusal(&format!("rediss://me:wrong-word@localhost:{port}"), trusting(ours())).await;
    assert!(told.contains("it does not accept the user or password"), "{told}");

    let (_elsewhere, port) = files.server("elsewhere", open).await;
    let told = refusal(&format!("rediss://localhost:{port}"), trusting(ours())).await;
    assert!(told.contains("its certificate is not for the name localhost"), "{told}");
    let (_old, port) = files.server("old", open).await;
    let told = refusal(&format!("rediss://localhost:{port}"), trusting(ours())).await;
    assert!(told.contains("its certificate has expired"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    needs_redis!();
    let Some(files) = Certificates::new() else {
        println!("skipped: openssl is not installed");
        return;
    };
    files.authority("ours");
    files.issued("good", "localhost", "2", "ours");
    files.issued("client", "client.test", "2", "ours");
    let ca = Some(files.path("ours.pem"));
    let (_server, port) = files.server("good", &["--tls-ca-cert-file", &files.file("ours.pem")]).await;
    let url = format!("rediss://me:pass-word@localhost:{port}");
    let own = Some((files.path("client.pem"), files.path("client.key")));
    let link = Link::open(Address::parse(&url).unwrap(), trusting(Tls { ca: ca.clone(), own })).await.unwrap();
    let broker = on(link, BrokerOptions::default()).await;
    publish(&broker, &labels("m", 1)).await;
    let told = refusal(&url, trusting(Tls { ca, own: None })).await;
    assert!(told.contains("it asks for a certificate of ours"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_user_and_password_are_checked_by_the_server_and_never_told() {
    needs_redis!();
    let port = free_port();
    let own = port.to_string();
    let arguments = ["--port", &own, "--bind", "127.0.0.1", "--requirepass", "lone-word"];
    let _redis = Redis::start(&[&arguments[..], &USER].concat()).await;
    for login in ["me:pass-word", "lone-word", ":lone-word", "default:lone-word"] {
        let address = Address::parse(&format!("redis://{login}@127.0.0.1:{port}")).unwrap();
        let broker = on(Link::open(address, Options::default()).await.unwrap(), BrokerOptions::default()).await;
        publish(&broker, &labels(&login[..2], 1)).await;
    }
    for login in ["me:wrong-word@", "you:pass-word@", "wrong-word@"] {
        let told = refusal(&format!("redis://{login}127.0.0.1:{port}"), Options::default()).await;
        assert!(told.contains("it does not accept the user or password"), "{told}");
    }
    let told = refusal(&format!("redis://127.0.0.1:{port}"), Options::default()).await;
    assert!(told.contains("it asks for a password, and the URL has none"), "{told}");
    let told = refusal(&format!("rediss://localhost:{port}"), Options::default()).await;
    assert!(told.contains("a server without TLS is named with redis://"), "{told}");
}
