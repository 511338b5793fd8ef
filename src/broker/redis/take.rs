//! Taking: one script, which writes down what it takes before anybody is told.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::frame::Frame;
use super::holdings::Held;
use super::queue::Queue;
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, NAME, bytes, read, told, unexpected};
use crate::broker::{Delivery, Want};
use crate::error::StoreError;
use crate::link::redis::{Access, Script};
use crate::task::MessageKey;

static TAKE: Script = Script::new(include_str!("scripts/take.lua"));

impl Inner {
    /// Tells Redis the name of a queue, unless it knows: what is held of it is found by that.
    pub(super) async fn name(&self, queue: &Queue) -> Result<(), StoreError> {
        if !queue.is_named.load(Ordering::Relaxed) {
            let (naming, names) = self.naming(std::iter::once(&queue.keys.queue));
            for answer in self.link.pipeline(Access::Write, &naming).await.map_err(told)? {
                answer.map_err(told)?;
            }
            self.named(&names);
        }
        Ok(())
    }

    /// Takes what is there. Dropped half-way, or without an answer, what was taken is found and goes back.
    pub(super) async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError> {
        self.living().await?;
        let queue = self.queue(want.queue);
        self.name(&queue).await?;
        let most = want.max.get().min(BATCH_MAX);
        let limit = want.body_bytes_max.clamp(1, BATCH_BYTES_MAX);
        let flight = self.holdings.take(want.queue, most as u64);
        let (keys, replica, first) = (&queue.keys, flight.replica.clone(), flight.first);
        let held = keys.held(&replica);
        let names = [keys.again.as_str(), &keys.inbox, keys.queue.as_str(), &held, &keys.holders];
        let numbers = [most, limit].map(|number| number.to_string());
        let (start, usual) = (first.to_string(), queue.usual().to_string());
        let args = [&*replica, &numbers[0], &numbers[1], &start, &usual];
        let value = match self.link.script(Access::Write, &TAKE, &names, &args).await.map_err(told) {
            Ok(value) => value,
            Err(StoreError::OutcomeUnknown { store, why }) => return Err(StoreError::Unavailable { store, why }),
            Err(error) => {
                flight.cancel();
                return Err(error);
            }
        };
        let redis::Value::Array(values) = value else { return Err(unexpected("what was taken")) };
        let mut values = values.into_iter();
        let frames: u64 = values.next().map_or(Ok(0), |value| read(value, "the number of frames"))?;
        let bodies = values.map(bytes).collect::<Result<Vec<_>, _>>()?;
        let sizes: Vec<usize> = bodies.iter().map(Bytes::len).collect();
        if !flight.land(&sizes) {
            let why = "this replica stood still so long that others took what it held".to_owned();
            return Err(StoreError::Unavailable { store: NAME, why });
        }
        let size: usize = sizes.iter().sum();
        queue.seen(bodies.len(), size);
        queue.has_more.store(bodies.len() == most || size >= limit, Ordering::Relaxed);
        let delivery = |(serial, value): (u64, Bytes)| {
            let is_frame = serial - first < frames;
            let held = Held { replica: replica.clone(), queue: want.queue.clone(), serial, is_frame };
            delivery(&held, value)
        };
        Ok((first..).zip(bodies).map(delivery).collect())
    }
}

/// What is given out of a value that is held.
pub(super) fn delivery(held: &Held, value: Bytes) -> Delivery {
    let receipt = held.receipt();
    // What only looks like a frame is a body, which `service` sets aside.
    if let Some(frame) = Some(held.is_frame).filter(|is| *is).and_then(|_| Frame::read(&value)) {
        let key = frame.key.unwrap_or_else(|| own_key(held));
        return Delivery { receipt, key: Some(key), body: frame.body, redelivered: frame.times > 0 };
    }
    Delivery { receipt, key: Some(own_key(held)), body: value, redelivered: false }
}

/// What a message is called that came without a name. Scripts make the same of replica and serial, if it comes again.
pub(super) fn own_key(held: &Held) -> MessageKey {
    MessageKey::trusted(format!("{}-{}", held.replica, held.field()))
}
