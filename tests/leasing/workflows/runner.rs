//! A worker that calls the functions of `tree`, over replicas that come and go, and writes down what it was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use lineshaft::service::Service;
use lineshaft::service::types::{Event, Granted, Outcome, Report};
use lineshaft::task::{Arg, ArgValue};
use parking_lot::Mutex;

use super::tree::{NAMES, call};
use crate::worker::Worker;

/// What workers were given: by task, the arguments of each attempt. One that was lost is given again under the same number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<BTreeMap<String, Vec<Vec<ArgValue>>>>>);

impl Witness {
    fn note(&self, lease: &Granted) {
        let args = lease.signature.args.iter().flatten().map(|arg| arg.value.clone()).collect();
        let mut all = self.0.lock();
        let of = all.entry(lease.signature.uuid.clone()).or_default();
        of.truncate(lease.attempt as usize - 1);
        of.push(args);
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Vec<Vec<ArgValue>>> {
        self.0.lock().clone()
    }
}

/// Runs whatever comes until it is dropped.
pub(crate) struct Runner(tokio::task::JoinHandle<()>);

impl Drop for Runner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn answer(lease: &Granted) -> Outcome {
    let args = lease.signature.args.clone().unwrap_or_default();
    match call(&lease.signature.name, &args, lease.attempt) {
        Ok(results) => {
            let result = |number| Arg::new("r", None, ArgValue::Int(number)).expect("is an integer");
            Outcome::Success(results.into_iter().map(result).map(|arg| Arg { name: String::new(), ..arg }).collect())
        }
        Err(error) => Outcome::Failure { error, is_final: false, retry_after: None },
    }
}

/// Attaches to `service` and works.
pub(crate) async fn start(service: &Service, witness: &Witness) -> Runner {
    let mut worker = Worker::attach(service, "w", &NAMES, 1_000_000).await;
    let witness = witness.clone();
    Runner(tokio::spawn(async move {
        loop {
            match worker.event().await {
                Some(Event::Leases { leases, .. }) => {
                    worker.received += leases.len() as u64;
                    worker.inbound.accepted(worker.received);
                    for lease in leases {
                        witness.note(&lease);
                        let report = Report { id: None, lease: lease.id.clone(), outcome: answer(&lease) };
                        worker.inbound.report(vec![report]).await;
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }))
}
