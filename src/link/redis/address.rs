//! Where a Redis is: the URLs that Machinery takes, and their options.

use std::path::PathBuf;
use std::time::Duration;

use redis::RedisConnectionInfo;

use super::tls::Tls;

/// Where a Redis is, and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Its servers; more than one only for a cluster or sentinels.
    pub servers: Vec<Server>,
    /// By TLS.
    pub tls: bool,
    /// A user other than the default one.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The database, from 0.
    pub database: i64,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// By host and port.
    Tcp(String, u16),
    /// By a socket file.
    Unix(PathBuf),
}

/// How connections are made and used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Longest wait for an answer. Default 5 s.
    pub answer_max: Duration,
    /// Longest wait for a connection. Default 2 s.
    pub connect_max: Duration,
    /// How connections call themselves. Default `lineshaft`.
    pub client_name: String,
    /// The servers are nodes of a cluster. Default: more than one server without a master's name.
    pub is_cluster: bool,
    /// The servers are sentinels, which know the master of this name.
    pub master_name: Option<String>,
    /// How to log in at sentinels. Default: without, as Machinery does.
    pub sentinel: Login,
    /// What TLS goes by, for `rediss://`.
    pub tls: Tls,
}

/// A user and a password. Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// A user other than the default one.
    pub user: Option<String>,
    /// The password. Without one nobody logs in.
    pub password: Option<String>,
}

impl Login {
    pub(super) fn put_in(&self, mut login: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        login
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.password.is_some() { "Login(..)" } else { "Login(none)" })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            answer_max: Duration::from_secs(5),
            connect_max: Duration::from_secs(2),
            client_name: "lineshaft".to_owned(),
            is_cluster: false,
            master_name: None,
            sentinel: Login::default(),
            tls: Tls::default(),
        }
    }
}

/// Why a URL names no Redis. Never repeats it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub String);

const PORT: u16 = 6379;

impl Address {
    /// Reads `redis://[[user]:password@]host[:port][,host[:port]…][/db]`, `rediss://…`, and
    /// `redis+socket://[password@]/path.sock[:/db]`. A lone word before `@` is the password; user and password are
    /// percent-decoded. A database that is no number is 0, as in Machinery.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let refused = |why: &str| Err(AddressError(why.to_owned()));
        let Some((scheme, rest)) = url.split_once("://") else {
            return refused("is no URL: redis://host:port is one");
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (user, password) = match login {
            None => (None, None),
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (decoded(user)?, decoded(password)?),
                None => (None, decoded(login)?),
            },
        };
        let (servers, tls, database) = match scheme {
            "redis" | "rediss" => {
                let (hosts, database) = match place.split_once('/') {
                    Some((hosts, database)) => (hosts, database),
                    None => (place, ""),
                };
                let servers: Result<Vec<Server>, AddressError> = hosts.split(',').map(server).collect();
                (servers?, scheme == "rediss", database)
            }
            "redis+socket" => {
                let (path, database) = place.split_once(":/").unwrap_or((place, ""));
                if path.is_empty() {
                    return refused("names no socket: redis+socket:///path.sock does");
                }
                (vec![Server::Unix(path.into())], false, database)
            }
            _ => return refused("begins with no scheme of Redis: redis, rediss or redis+socket"),
        };
        let database = database.split(['?', '/']).next().and_then(|number| number.parse().ok()).unwrap_or(0);
        Ok(Self { servers, tls, user, password, database })
    }

    /// The servers, for people.
    pub fn shown(&self) -> String {
        let shown = |server: &Server| match server {
            Server::Tcp(host, port) => format!("{host}:{port}"),
            Server::Unix(path) => path.display().to_string(),
        };
        self.servers.iter().map(shown).collect::<Vec<_>>().join(",")
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({}/{})", self.shown(), self.database)
    }
}

fn server(text: &str) -> Result<Server, AddressError> {
    // An IPv6 address is in brackets, so that its colons are not taken for the port's.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "localhost" } else { host };
    let port = match port {
        None | Some("") => PORT,
        Some(port) => port.parse().map_err(|_| AddressError("has a port that is none: 1 to 65535".to_owned()))?,
    };
    Ok(Server::Tcp(host.to_owned(), port))
}

/// Percent-decoded; `None`: empty.
fn decoded(text: &str) -> Result<Option<String>, AddressError> {
    let wrong = || AddressError("has a user or password that is not percent-encoded as it should".to_owned());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else { return Err(wrong()) };
        // Two hexadecimal digits are at most 255.
        out.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX));
    }
    let text = String::from_utf8(out).map_err(|_| wrong())?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Server {
        Server::Tcp(host.into(), port)
    }

    #[test]
    fn the_forms_that_machinery_takes_are_read() {
        let read = |url| Address::parse(url).unwrap();
        let plain = read("redis://h");
        assert_eq!((plain.servers, plain.tls, plain.password, plain.database), (vec![tcp("h", 6379)], false, None, 0));
        let full = read("rediss://me:p%40ss@h:1/3");
        assert_eq!((full.servers, full.tls, full.database), (vec![tcp("h", 1)], true, 3));
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("me"), Some("p@ss")));
        let lone = read("redis://secret@h:1/x");
        assert_eq!((lone.user, lone.password.as_deref(), lone.database), (None, Some("secret"), 0));
        let several = read("redis://:pw@a:1,b:2,[::1]:3/1");
        assert_eq!(several.servers, [tcp("a", 1), tcp("b", 2), tcp("::1", 3)]);
        assert_eq!((several.user, several.password.as_deref(), several.database), (None, Some("pw"), 1));
        let socket = read("redis+socket://pw@/tmp/r.sock:/2");
        assert_eq!(socket.servers, [Server::Unix("/tmp/r.sock".into())]);
        assert_eq!((socket.password.as_deref(), socket.database), (Some("pw"), 2));
    }

    #[test]
    fn what_is_none_is_refused_without_repeating_it() {
        for url in ["secret", "redis://h:x", "http://h", "redis+socket://", "redis://%zz@h"] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret") && !error.contains("zz"), "{error}");
        }
        assert!(!format!("{:?}", Address::parse("redis://:secret@h").unwrap()).contains("secret"));
    }
}
