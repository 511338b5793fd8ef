//! What of a value is a secret: a password, and whatever a URL carries beside the address.

/// What stands for a secret.
const REDACTED: &str = "[redacted]";

/// The value of a key as it may be logged and shown: in URLs, user, password and query are left out. Everything up to the last
/// `@` goes, so that a password with `/` or `@` in it, or one of several URLs in a list, does not slip through.
pub(super) fn redacted(key: &str, text: &str) -> String {
    if key == "redis.sentinel_password" {
        return REDACTED.to_owned();
    }
    if !matches!(key, "broker" | "result_backend" | "lock" | "server.ledger") || text.starts_with("embedded:") {
        return text.to_owned();
    }
    // Machinery's two words that are no URL.
    if matches!(text, "eager" | "null") {
        return text.to_owned();
    }
    let Some((scheme, rest)) = text.split_once("://") else { return REDACTED.to_owned() };
    // What stands before `://` is a scheme only if it looks like one; else it may be the beginning of a password.
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
        return REDACTED.to_owned();
    }
    let (secret, address) = rest.rsplit_once('@').map_or((false, rest), |(_, address)| (true, address));
    let mut told = format!("{scheme}://");
    if secret {
        told.push_str(REDACTED);
        told.push('@');
    }
    match address.split_once('?') {
        Some((address, _)) => told.push_str(&format!("{address}?{REDACTED}")),
        None => told.push_str(address),
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_left() {
        for (text, told) in [
            ("amqp://guest:secret@localhost:5672/", "amqp://[redacted]@localhost:5672/"),
            ("redis://secret@h:1/0", "redis://[redacted]@h:1/0"),
            ("redis://:se/c@ret@h:1", "redis://[redacted]@h:1"),
            ("redis://:secret@a:1,redis://:secret@b:2", "redis://[redacted]@b:2"),
            ("mongodb://h/d?password=secret", "mongodb://h/d?[redacted]"),
            ("secret@h:6379", "[redacted]"),
            ("secret", "[redacted]"),
            ("null", "null"),
            ("u:secret@h://x", "[redacted]"),
            ("redis://localhost:6379", "redis://localhost:6379"),
            ("embedded:dir@x?", "embedded:dir@x?"),
        ] {
            assert_eq!(redacted("broker", text), told);
        }
        assert_eq!(redacted("default_queue", "a@b?c"), "a@b?c");
        assert_eq!(redacted("redis.sentinel_password", "redis://h"), "[redacted]");
    }
}
