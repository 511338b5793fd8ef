//! Word between replicas, over a channel.
//!
//! This process hears its own word at once and from itself. A replica whose connection broke has missed what was told
//! meanwhile: nothing repeats it, and whoever listens reads again at its own pace, as with all notices.

use std::sync::Arc;

use prost::Message;
use tokio::sync::{broadcast, mpsc};

use crate::ledger::{CancelMark, LocalNotices, Notice, Notices};
use crate::link::redis::{Access, Heard, Link, Listener};
use crate::task::{GroupId, MessageKey, SessionId, TaskId};

use super::layout::NOTICES;

/// Notices that wait to be told to the others; of more, the newest are lost.
const WAITING_MAX: usize = 1_024;
/// Notices sent in one round trip.
const AT_ONCE_MAX: usize = 64;
/// Notices heard that wait to be passed on here; of more, the oldest are lost.
const HEARD_MAX: usize = 1_024;

/// A notice as it is told.
#[derive(Clone, PartialEq, prost::Message)]
struct NoticeRecord {
    /// Who tells it, so that the teller does not hear it twice.
    #[prost(fixed64, tag = "1")]
    teller: u64,
    #[prost(oneof = "Told", tags = "2, 3, 4, 5, 6, 7")]
    told: Option<Told>,
}

/// See [`Notice`].
#[derive(Clone, PartialEq, prost::Oneof)]
enum Told {
    #[prost(message, tag = "2")]
    Ended(Ended),
    #[prost(message, tag = "3")]
    Attached(Attached),
    #[prost(string, tag = "4")]
    Closed(String),
    #[prost(message, tag = "5")]
    Marked(Marked),
    #[prost(bool, tag = "6")]
    Paused(bool),
    #[prost(message, tag = "7")]
    Joined(Joined),
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
struct Ended {
    #[prost(string, repeated, tag = "1")]
    messages: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
struct Joined {
    #[prost(string, repeated, tag = "1")]
    groups: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
struct Attached {
    #[prost(string, tag = "1")]
    session: String,
    #[prost(uint64, tag = "2")]
    attach: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
struct Marked {
    #[prost(string, tag = "1")]
    task: String,
    #[prost(fixed64, tag = "2")]
    generation: u64,
}

impl From<Notice> for Told {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Ended(messages) => {
                Self::Ended(Ended { messages: messages.iter().map(ToString::to_string).collect() })
            }
            Notice::Attached(session, attach) => Self::Attached(Attached { session: session.to_string(), attach }),
            Notice::Closed(session) => Self::Closed(session.to_string()),
            Notice::Marked(CancelMark { task, generation }) => {
                Self::Marked(Marked { task: task.to_string(), generation })
            }
            Notice::Paused => Self::Paused(true),
            Notice::Joined(groups) => Self::Joined(Joined { groups: groups.iter().map(ToString::to_string).collect() }),
        }
    }
}

impl From<Told> for Notice {
    fn from(told: Told) -> Self {
        match told {
            Told::Ended(ended) => Self::Ended(ended.messages.into_iter().map(MessageKey::trusted).collect()),
            Told::Attached(attached) => Self::Attached(SessionId::trusted(attached.session), attached.attach),
            Told::Closed(session) => Self::Closed(SessionId::trusted(session)),
            Told::Marked(marked) => {
                Self::Marked(CancelMark { task: TaskId::trusted(marked.task), generation: marked.generation })
            }
            Told::Paused(_) => Self::Paused,
            Told::Joined(joined) => Self::Joined(joined.groups.into_iter().map(GroupId::trusted).collect()),
        }
    }
}

/// The notices of one replica.
#[derive(Debug)]
pub(super) struct Channel {
    here: Arc<LocalNotices>,
    waiting: mpsc::Sender<Notice>,
    teller: tokio::task::JoinHandle<()>,
    hearer: tokio::task::JoinHandle<()>,
    _listener: Listener,
}

impl Channel {
    /// Begins to listen and to tell.
    pub(super) fn start(link: &Link) -> Self {
        // Drawn, not counted: it has to differ between processes.
        let me = uuid::Uuid::new_v4().as_u64_pair().0;
        let here: Arc<LocalNotices> = Arc::default();
        let listener = Listener::start(link.clone(), vec![NOTICES.to_owned()], HEARD_MAX);
        let hearer = tokio::spawn(hear(listener.hear(), me, Arc::clone(&here)));
        let (waiting, told) = mpsc::channel(WAITING_MAX);
        let teller = tokio::spawn(tell(link.clone(), me, told));
        Self { here, waiting, teller, hearer, _listener: listener }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.teller.abort();
        self.hearer.abort();
    }
}

impl Notices for Channel {
    fn tell(&self, notice: Notice) {
        // Lossy: where too many wait, or nobody sends any more, the others read again by themselves.
        let _ = self.waiting.try_send(notice.clone());
        self.here.tell(notice);
    }

    fn listen(&self) -> broadcast::Receiver<Notice> {
        self.here.listen()
    }
}

async fn tell(link: Link, me: u64, mut told: mpsc::Receiver<Notice>) {
    let mut waiting = Vec::with_capacity(AT_ONCE_MAX);
    while told.recv_many(&mut waiting, AT_ONCE_MAX).await > 0 {
        let mut commands = redis::pipe();
        for notice in waiting.drain(..) {
            let record = NoticeRecord { teller: me, told: Some(notice.into()) };
            commands.cmd("PUBLISH").arg(NOTICES).arg(record.encode_to_vec());
        }
        if let Err(failure) = link.pipeline(Access::Write, &commands).await {
            tracing::debug!(error = failure.why, "notices did not reach the other replicas");
        }
    }
}

async fn hear(mut heard: broadcast::Receiver<Heard>, me: u64, here: Arc<LocalNotices>) {
    loop {
        match heard.recv().await {
            Ok(Heard::Told(_, payload)) => match NoticeRecord::decode(payload) {
                Ok(NoticeRecord { teller, told: Some(told) }) if teller != me => here.tell(told.into()),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a notice that cannot be read is passed over"),
            },
            Ok(Heard::Anew) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notice_is_read_as_it_was_told() {
        let mark = CancelMark { task: TaskId::trusted("t"), generation: u64::MAX };
        let notices = [
            Notice::Ended(vec![MessageKey::trusted("a"), MessageKey::trusted("b")]),
            Notice::Attached(SessionId::trusted("s"), 7),
            Notice::Closed(SessionId::trusted("s")),
            Notice::Marked(mark),
            Notice::Paused,
            Notice::Joined(vec![GroupId::trusted("g"), GroupId::trusted("h")]),
        ];
        for notice in notices {
            let record = NoticeRecord { teller: 1, told: Some(notice.clone().into()) };
            let read = NoticeRecord::decode(record.encode_to_vec().as_slice()).unwrap();
            assert_eq!(read.told.map(Notice::from), Some(notice));
        }
    }
}
