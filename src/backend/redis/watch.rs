//! Being told of states that change, whoever writes them.

use tokio::sync::broadcast;

use crate::link::redis::{Link, Tracker};
use crate::task::TaskId;

/// Changes that a listener may fall behind before it loses the oldest.
const CHANGES_MAX: usize = 4096;

/// The watched tasks.
#[derive(Debug)]
pub(super) struct Watched {
    tracker: Tracker,
    changes: broadcast::Sender<TaskId>,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    pub(super) fn new(link: Link) -> Self {
        let tracker = Tracker::start(link, CHANGES_MAX);
        let changes = broadcast::Sender::new(CHANGES_MAX);
        let (mut keys, tell) = (tracker.changes(), changes.clone());
        let task = tokio::spawn(async move {
            loop {
                match keys.recv().await {
                    // An error says that nobody listens.
                    Ok(key) => drop(tell.send(TaskId::trusted(&*key))),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        Self { tracker, changes, task }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl crate::backend::Watch for Watched {
    fn watch(&self, id: &TaskId) {
        self.tracker.follow(id.as_str());
    }

    fn unwatch(&self, id: &TaskId) {
        self.tracker.unfollow(id.as_str());
    }

    fn changes(&self) -> broadcast::Receiver<TaskId> {
        self.changes.subscribe()
    }
}
