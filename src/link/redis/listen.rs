//! Being told: channels, over a connection of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::broadcast;

use super::connect::Link;

/// Pause before a broken connection is made anew.
const PAUSE: Duration = Duration::from_millis(100);
/// A server that said nothing for so long is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Something was told on a channel.
    Told(Arc<str>, Bytes),
    /// The connection is new: something may have been missed, whoever listens reads again.
    Anew,
}

/// Listens to channels until it is dropped.
#[derive(Debug)]
pub struct Listener {
    heard: broadcast::Sender<Heard>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    /// Listens to `channels` of `link`. A receiver that falls `kept` behind loses the oldest.
    pub fn start(link: Link, channels: Vec<String>, kept: usize) -> Self {
        let heard = broadcast::Sender::new(kept);
        let tell = heard.clone();
        Self { heard, task: tokio::spawn(run(link, channels, tell)) }
    }

    /// All that is heard from now on.
    pub fn hear(&self) -> broadcast::Receiver<Heard> {
        self.heard.subscribe()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(link: Link, channels: Vec<String>, tell: broadcast::Sender<Heard>) {
    loop {
        let (push, mut pushed) = tokio::sync::mpsc::unbounded_channel::<PushInfo>();
        let config = AsyncConnectionConfig::new().set_push_sender(push);
        if let Ok((mut connection, mut renewal)) = link.listening(config).await
            && connection.subscribe(&channels).await.is_ok()
        {
            // An error says that nobody listens.
            let _ = tell.send(Heard::Anew);
            loop {
                let pushed = tokio::select! {
                    pushed = tokio::time::timeout(SILENCE_MAX, pushed.recv()) => pushed,
                    () = renewal.happened() => break,
                };
                match pushed {
                    Ok(Some(push)) if push.kind == PushKind::Message => {
                        if let Some(told) = message(push.data) {
                            let _ = tell.send(told);
                        }
                    }
                    Ok(Some(push)) if push.kind == PushKind::Disconnection => break,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => {
                        let ping = redis::cmd("PING");
                        let answer = tokio::time::timeout(SILENCE_MAX, connection.send_packed_command(&ping)).await;
                        if !matches!(answer, Ok(Ok(_))) {
                            break;
                        }
                    }
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn message(data: Vec<Value>) -> Option<Heard> {
    let [Value::BulkString(channel), Value::BulkString(payload)] = <[Value; 2]>::try_from(data).ok()? else {
        return None;
    };
    Some(Heard::Told(String::from_utf8(channel).ok()?.into(), payload.into()))
}
