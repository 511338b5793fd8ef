//! What an empty routing key becomes, by broker, as a table.
//!
//! A key that is not empty is never changed, and callbacks do not inherit their parent's.

/// The kind of an AMQP exchange, as far as routing keys depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// The broker has no exchanges.
    None,
    /// `direct`.
    Direct,
    /// `topic`, `fanout`, `headers`, and those of plug-ins.
    Other,
}

impl Exchange {
    /// The kind that a configured exchange type names; exact, as Machinery compares it.
    pub fn of(exchange_type: &str) -> Self {
        if exchange_type == "direct" { Self::Direct } else { Self::Other }
    }
}

/// What takes the place of an empty key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmptyKey {
    /// The name of the default queue.
    DefaultQueue,
    /// The binding key of the AMQP section.
    BindingKey,
}

/// When it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filled {
    /// Before the body is written: it carries the key.
    BeforeEncoding,
    /// After: the body keeps the empty key.
    AfterEncoding,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The broker's name, as in its capabilities.
    pub broker: &'static str,
    /// Its exchange.
    pub exchange: Exchange,
    /// What takes the place of an empty key.
    pub empty_key: EmptyKey,
    /// When.
    pub filled: Filled,
}

const fn line(broker: &'static str, exchange: Exchange, empty_key: EmptyKey, filled: Filled) -> Rule {
    Rule { broker, exchange, empty_key, filled }
}

/// Machinery's rules; the stores of our own follow Redis.
pub const RULES: [Rule; 6] = [
    line("memory", Exchange::None, EmptyKey::DefaultQueue, Filled::BeforeEncoding),
    line("embedded", Exchange::None, EmptyKey::DefaultQueue, Filled::BeforeEncoding),
    line("redis", Exchange::None, EmptyKey::DefaultQueue, Filled::BeforeEncoding),
    line("amqp", Exchange::Direct, EmptyKey::BindingKey, Filled::BeforeEncoding),
    // The name of the queue as a key, which need not match any binding: Machinery's choice, kept.
    line("amqp", Exchange::Other, EmptyKey::DefaultQueue, Filled::BeforeEncoding),
    line("sqs", Exchange::None, EmptyKey::DefaultQueue, Filled::AfterEncoding),
];

/// The rule of a broker; `None` for one that is not in the table.
pub fn rule(broker: &str, exchange: Exchange) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.broker == broker && rule.exchange == exchange)
}

impl Rule {
    /// The key under which a task goes out. `binding_key` matters for AMQP only.
    pub fn key<'a>(&self, routing_key: &'a str, default_queue: &'a str, binding_key: &'a str) -> &'a str {
        match self.empty_key {
            _ if !routing_key.is_empty() => routing_key,
            EmptyKey::DefaultQueue => default_queue,
            EmptyKey::BindingKey => binding_key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_keys_follow_machinery_and_others_are_kept() {
        use Filled::*;
        for (broker, exchange, key, filled) in [
            ("memory", Exchange::None, "queue", BeforeEncoding),
            ("embedded", Exchange::None, "queue", BeforeEncoding),
            ("redis", Exchange::None, "queue", BeforeEncoding),
            ("amqp", Exchange::of("direct"), "binding", BeforeEncoding),
            ("amqp", Exchange::of("topic"), "queue", BeforeEncoding),
            ("amqp", Exchange::of("Direct"), "queue", BeforeEncoding),
            ("sqs", Exchange::None, "queue", AfterEncoding),
        ] {
            let rule = rule(broker, exchange).unwrap();
            assert_eq!((rule.key("", "queue", "binding"), rule.filled), (key, filled), "{broker}");
            assert_eq!(rule.key("own", "queue", "binding"), "own");
        }
        assert_eq!(rule("amqp", Exchange::None), None);
        assert_eq!(rule("smoke", Exchange::None), None);
    }
}
