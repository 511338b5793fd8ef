//! Sessions: who a worker is and what it takes.

use std::collections::HashSet;

use lineshaft_client::proto;

use super::{lease, limit, task, time};
use crate::error::Error;
use crate::ledger::Subscription;
use crate::service::types::{Guarantees, Hello, Resume, Settings, Worker};
use crate::task::{LeaseId, QueueName, SessionId, TaskName};

/// Longest `Hello.worker`, bytes.
const WORKER_BYTES_MAX: usize = 200;

/// Longest `Hello.language` and `Hello.version`, bytes.
const CLIENT_BYTES_MAX: usize = 50;

/// Longest `Resume.secret`, bytes; ours are shorter.
const SECRET_BYTES_MAX: usize = 200;

/// Most subscriptions of a worker.
const SUBSCRIPTIONS_MAX: usize = 100;

/// Most names of a subscription.
const NAMES_MAX: usize = 1000;

/// Greatest weight of a subscription.
const WEIGHT_MAX: usize = 1000;

/// Checks the opening of a stream. Paths begin at the `Hello`. `Hello.held` goes its own way, through [`held`].
pub(in crate::api) fn hello(hello: proto::Hello, settings: &Settings) -> Result<Hello, Error> {
    if hello.resume.is_none() && !hello.held.is_empty() {
        return Err(Error::invalid("held", "needs resume: a new session holds nothing"));
    }
    Ok(Hello {
        worker: worker(hello.worker)?,
        language: client("language", hello.language)?,
        version: client("version", hello.version)?,
        subscriptions: subscriptions(hello.subscriptions, settings)?,
        concurrency: hello.concurrency,
        resume: hello.resume.map(|r| resume(r).map_err(|e| e.within("resume"))).transpose()?,
        held: held("held", &hello.held, settings)?,
    })
}

/// A worker's own name.
pub(in crate::api) fn worker(name: String) -> Result<String, Error> {
    limit::at_most("worker", name.len(), WORKER_BYTES_MAX, "bytes").map(|()| name)
}

fn client(field: &str, text: String) -> Result<String, Error> {
    limit::at_most(field, text.len(), CLIENT_BYTES_MAX, "bytes").map(|()| text)
}

/// Checks what a worker takes.
pub(in crate::api) fn subscriptions(
    subscriptions: Vec<proto::Subscription>,
    settings: &Settings,
) -> Result<Vec<Subscription>, Error> {
    limit::count("subscriptions", subscriptions.len(), SUBSCRIPTIONS_MAX, "subscriptions")?;
    let mut queues = HashSet::new();
    let mut one = |subscription| {
        let read = subscribed(subscription, settings)?;
        if !queues.insert(read.queue.clone()) {
            return Err(Error::invalid("queue", format!("{:?} is named twice", read.queue.as_str())));
        }
        Ok(read)
    };
    let with_path = |(i, s)| one(s).map_err(|e: Error| e.within(&format!("subscriptions[{i}]")));
    subscriptions.into_iter().enumerate().map(with_path).collect()
}

fn subscribed(subscription: proto::Subscription, settings: &Settings) -> Result<Subscription, Error> {
    let queue = task::optional(&subscription.queue, |q| QueueName::new(q).map_err(limit::id("queue")))?;
    limit::count("names", subscription.names.len(), NAMES_MAX, "names")?;
    limit::at_most("weight", subscription.weight as usize, WEIGHT_MAX, "shares")?;
    let mut names = Vec::with_capacity(subscription.names.len());
    for (i, name) in subscription.names.iter().enumerate() {
        names.push(TaskName::new(name).map_err(|e| limit::id(&format!("names[{i}]"))(e))?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(Subscription {
        queue: queue.unwrap_or_else(|| settings.default_queue.clone()),
        names,
        weight: subscription.weight.max(1),
    })
}

/// Checks the proof of a session.
pub(in crate::api) fn resume(resume: proto::Resume) -> Result<Resume, Error> {
    let session = SessionId::new(&resume.session_id).map_err(limit::id("session_id"))?;
    limit::count("secret", resume.secret.len(), SECRET_BYTES_MAX, "bytes")?;
    Ok(Resume { session, secret: resume.secret })
}

/// The leases of a list; what names none is left out, since nobody can hold it.
pub(in crate::api) fn held(field: &str, ids: &[String], settings: &Settings) -> Result<Vec<LeaseId>, Error> {
    limit::at_most(field, ids.len(), settings.held_max, "leases")?;
    Ok(ids.iter().filter_map(|id| lease::id(id)).collect())
}

/// The verdict on each lease asked about, in the order asked; what names no lease is not kept.
pub(in crate::api) fn verdicts(asked: Vec<String>, kept: &[(LeaseId, bool)]) -> Vec<proto::HeldLease> {
    let kept: HashSet<&LeaseId> = kept.iter().filter(|(_, kept)| *kept).map(|(id, _)| id).collect();
    let one = |lease_id: String| {
        let kept = lease::id(&lease_id).is_some_and(|id| kept.contains(&id));
        proto::HeldLease { lease_id, kept }
    };
    asked.into_iter().map(one).collect()
}

/// As the protocol has it.
pub(in crate::api) fn to_resume(resume: Resume) -> proto::Resume {
    proto::Resume { session_id: resume.session.to_string(), secret: resume.secret }
}

/// When to send what.
pub(in crate::api) fn timing(settings: &Settings) -> proto::Timing {
    proto::Timing {
        heartbeat_interval: Some(time::to_duration(settings.heartbeat_interval)),
        lease_duration: Some(time::to_duration(settings.lease_duration)),
        silence_max: Some(time::to_duration(settings.silence_max)),
    }
}

/// What the stores in force promise, in sentences.
pub(in crate::api) fn guarantees(guarantees: &Guarantees) -> proto::Guarantees {
    use crate::broker::StaleAck;
    let delivery = "at least once: an attempt whose worker is lost runs again; while a worker lives and keeps its lease, \
                    its task is not started elsewhere";
    let stale_results = match guarantees.broker.stale_ack {
        StaleAck::Rejected => "refused as SUPERSEDED by the ledger; an outdated receipt is refused by the broker too",
        StaleAck::Undetected => {
            "refused as SUPERSEDED by the ledger; the broker itself does not notice outdated receipts"
        }
    };
    proto::Guarantees {
        broker: guarantees.broker.name.to_owned(),
        ledger: guarantees.ledger.to_owned(),
        backend: guarantees.backend.to_owned(),
        fused: guarantees.fused,
        single_replica: guarantees.single_replica,
        durability: guarantees.broker.durability.to_owned(),
        delivery: delivery.to_owned(),
        stale_results: stale_results.to_owned(),
    }
}

/// A worker as an operator sees it.
pub(in crate::api) fn info(worker: &Worker) -> proto::WorkerInfo {
    let session = &worker.session;
    let subscriptions = session.subscriptions.iter().map(|s| proto::Subscription {
        queue: s.queue.to_string(),
        names: s.names.iter().map(ToString::to_string).collect(),
        weight: s.weight,
    });
    proto::WorkerInfo {
        session_id: session.id.to_string(),
        worker: session.worker.clone(),
        language: session.language.clone(),
        version: session.version.clone(),
        subscriptions: subscriptions.collect(),
        concurrency: session.concurrency,
        leases: worker.leases,
        attached: worker.attached,
        last_heartbeat_age: Some(time::to_duration(worker.silent_for)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{FencingToken, MessageKey};

    fn taking(queue: &str, names: &[&str]) -> proto::Subscription {
        let names = names.iter().map(ToString::to_string).collect();
        proto::Subscription { queue: queue.to_owned(), names, weight: 0 }
    }

    fn opening(subscriptions: Vec<proto::Subscription>) -> proto::Hello {
        proto::Hello { subscriptions, ..Default::default() }
    }

    fn field_of(h: proto::Hello) -> String {
        match hello(h, &Settings::default()).unwrap_err() {
            Error::Invalid { field, .. } | Error::LimitExceeded { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_field_of_hello_out_of_its_range_is_refused_by_name() {
        let good = || vec![taking("", &["a"])];
        let resume = |session: &str, secret: &str| {
            Some(proto::Resume { session_id: session.to_owned(), secret: secret.to_owned() })
        };
        let cases = [
            (opening(vec![]), "subscriptions"),
            (opening(vec![taking("q", &["a"]); 101]), "subscriptions"),
            (opening(vec![taking("q", &[])]), "subscriptions[0].names"),
            (opening(vec![taking("q", &["a", ""])]), "subscriptions[0].names[1]"),
            (opening(vec![taking("a b", &["a"])]), "subscriptions[0].queue"),
            (opening(vec![taking("q", &["a"]), taking("q", &["b"])]), "subscriptions[1].queue"),
            (opening(vec![proto::Subscription { weight: 1001, ..taking("q", &["a"]) }]), "subscriptions[0].weight"),
            (proto::Hello { worker: "w".repeat(201), ..opening(good()) }, "worker"),
            (proto::Hello { language: "w".repeat(51), ..opening(good()) }, "language"),
            (proto::Hello { version: "w".repeat(51), ..opening(good()) }, "version"),
            (proto::Hello { held: vec!["x".into()], ..opening(good()) }, "held"),
            (proto::Hello { resume: resume("", "s"), ..opening(good()) }, "resume.session_id"),
            (proto::Hello { resume: resume("s", ""), ..opening(good()) }, "resume.secret"),
        ];
        for (bad, field) in cases {
            assert_eq!(field_of(bad), field);
        }
    }

    #[test]
    fn an_unset_queue_is_the_default_and_names_are_taken_once() {
        let read = hello(opening(vec![taking("", &["b", "a", "b"])]), &Settings::default()).unwrap();
        let only = &read.subscriptions[0];
        assert_eq!((only.queue.as_str(), only.weight, only.names.len()), ("machinery_tasks", 1, 2));
    }

    #[test]
    fn each_lease_asked_about_gets_its_verdict_in_order() {
        let [a, b] = [1, 2].map(|t| LeaseId { message: MessageKey::trusted("m"), token: FencingToken(t) });
        let asked = vec![b.to_string(), "no lease".into(), a.to_string()];
        let told = verdicts(asked, &[(a, true), (b, false)]);
        assert_eq!(told.iter().map(|h| h.kept).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(told[1].lease_id, "no lease");
    }
}
