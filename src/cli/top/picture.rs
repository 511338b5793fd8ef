//! One look at a server: what it is, its queues and its workers.

use std::time::{Duration, UNIX_EPOCH};

use lineshaft_client::proto;
use prost_types::Timestamp;
use proto::{GetServerInfoResponse, Queue, WorkerInfo};
use serde_json::Value;

use super::super::remote::{self, Connection};
use super::super::{Failure, output, queues, workers};
use crate::clock::{Clock, SystemClock};

/// Items asked for in one call.
const PAGE: u32 = 1_000;

/// Queues looked at, and workers: more than a person pages through, and no burden on a server that is asked each second.
pub const ITEMS_MAX: usize = 5_000;

/// The time allowed to each call of a look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// What one look at a server found.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// When, by the clock of this machine.
    pub taken_at: Timestamp,
    /// Where the server was asked.
    pub url: String,
    /// What the server is.
    pub info: GetServerInfoResponse,
    /// Its queues, at most [`ITEMS_MAX`].
    pub queues: Vec<Queue>,
    /// True: there are more queues.
    pub is_queues_cut: bool,
    /// Its workers, at most [`ITEMS_MAX`].
    pub workers: Vec<WorkerInfo>,
    /// True: there are more workers.
    pub is_workers_cut: bool,
}

/// Looks at the server at `url` once.
///
/// # Errors
/// That of the first call that failed.
pub async fn look(connection: &Connection, url: &str) -> Result<Picture, Failure> {
    let request = remote::within(proto::GetServerInfoRequest {}, LOOK_TIMEOUT);
    let info = connection.server().get_server_info(request).await?.into_inner();
    let (queues, is_queues_cut) = look_at_queues(connection).await?;
    let (workers, is_workers_cut) = look_at_workers(connection).await?;
    let taken_at = Timestamp::from(UNIX_EPOCH + Duration::from_nanos(SystemClock.wall().0));
    Ok(Picture { taken_at, url: url.to_owned(), info, queues, is_queues_cut, workers, is_workers_cut })
}

async fn look_at_queues(connection: &Connection) -> Result<(Vec<Queue>, bool), Failure> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListQueuesRequest { page_size: PAGE, page_token, name_prefix: String::new() };
        let page = connection.queues().list_queues(remote::within(request, LOOK_TIMEOUT)).await?.into_inner();
        page_token = page.next_page_token;
        found.extend(page.queues);
        if page_token.is_empty() || found.len() >= ITEMS_MAX {
            return Ok(bounded(found, &page_token));
        }
    }
}

async fn look_at_workers(connection: &Connection) -> Result<(Vec<WorkerInfo>, bool), Failure> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListWorkersRequest { page_size: PAGE, page_token };
        let page = connection.workers().list_workers(remote::within(request, LOOK_TIMEOUT)).await?.into_inner();
        page_token = page.next_page_token;
        found.extend(page.workers);
        if page_token.is_empty() || found.len() >= ITEMS_MAX {
            return Ok(bounded(found, &page_token));
        }
    }
}

/// The first of what was found, and whether there is more.
fn bounded<T>(mut found: Vec<T>, next_page_token: &str) -> (Vec<T>, bool) {
    let is_cut = found.len() > ITEMS_MAX || !next_page_token.is_empty();
    found.truncate(ITEMS_MAX);
    (found, is_cut)
}

/// A picture for `--json`; queues and workers as `queues --json` and `workers --json` print them.
pub fn to_json(picture: &Picture) -> Value {
    let stores = picture.info.guarantees.clone().unwrap_or_default();
    let server = output::object([
        ("url", picture.url.clone().into()),
        ("version", picture.info.version.clone().into()),
        ("broker", stores.broker.into()),
        ("ledger", stores.ledger.into()),
        ("backend", stores.backend.into()),
        ("default_queue", picture.info.default_queue.clone().into()),
        ("time", output::moment(picture.info.server_time.as_ref())),
    ]);
    output::object([
        ("time", output::moment(Some(&picture.taken_at))),
        ("server", server),
        ("queues", picture.queues.iter().map(queues::to_json).collect()),
        ("more_queues", picture.is_queues_cut.into()),
        ("workers", picture.workers.iter().map(workers::to_json).collect()),
        ("more_workers", picture.is_workers_cut.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_left_out_and_said() {
        assert_eq!(bounded(vec![1, 2], ""), (vec![1, 2], false));
        assert!(bounded(vec![1, 2], "more").1);
        let (kept, is_cut) = bounded(vec![0; ITEMS_MAX + 1], "");
        assert_eq!((kept.len(), is_cut), (ITEMS_MAX, true));
    }

    #[test]
    fn a_picture_in_json_has_the_rows_of_the_other_commands() {
        let queue = Queue { name: "media".into(), waiting: 3, ..Queue::default() };
        let worker = WorkerInfo { worker: "w".into(), leases: 2, ..WorkerInfo::default() };
        let (of_queue, of_worker) = (queues::to_json(&queue), workers::to_json(&worker));
        let picture = Picture { queues: vec![queue], workers: vec![worker], ..Picture::default() };
        let told = to_json(&picture);
        assert_eq!((&told["queues"][0], &told["workers"][0]), (&of_queue, &of_worker));
        assert_eq!(told["time"], "1970-01-01T00:00:00Z");
        assert!(told["server"]["time"].is_null() && told["more_queues"] == false, "{told}");
    }
}
