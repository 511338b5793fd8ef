//! Records of groups: one string under the id of the group, as Machinery writes it.

use std::time::Duration;

use redis::{Pipeline, Value};

use super::layout::KEEP_MAX;
use super::{BATCH_MAX, Backend, told};
use crate::backend::{GroupMeta, Triggered};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Script};
use crate::task::{GroupId, MessageKey, TaskId};
use crate::wire::machinery::{self, GroupRecord};

static TRIGGER: Script = Script::new(include_str!("scripts/trigger.lua"));
static UNLOCK: Script = Script::new(include_str!("scripts/unlock.lua"));
static REFRESH: Script = Script::new(include_str!("scripts/refresh.lua"));

/// The lock that Machinery's workers take, whatever the group, while they look at its flag and set it.
const MUTEX: &str = "TriggerChordMutex";
/// How long they have it at most, ms.
const MUTEX_MS: u64 = 8_000;
/// How often the flag is looked at anew because others changed the record.
const TRIGGERED_MAX: usize = 8;

/// How long, in whole seconds, as Machinery keeps records; at least one, and none is no record at all.
fn seconds(keep: Duration) -> u64 {
    let keep = keep.min(KEEP_MAX);
    (keep.as_secs() + u64::from(keep.subsec_nanos() > 0)).max(1)
}

impl Backend {
    /// See [`super::super::Backend::put_group`].
    pub(super) async fn put_record(&self, group: &GroupMeta, keep: Duration) -> Result<(), StoreError> {
        if keep.is_zero() {
            let mut command = redis::cmd("DEL");
            command.arg(group.id.as_str());
            return self.link.command(Access::Write, &command).await.map(drop).map_err(told);
        }
        let record = GroupRecord {
            id: group.id.to_string(),
            tasks: group.tasks.clone(),
            is_triggered: group.is_triggered,
            is_locked: false,
            created_at: group.created_at,
            message: None,
        };
        let mut command = redis::cmd("SET");
        command.arg(group.id.as_str()).arg(&machinery::encode_group(&record)[..]).arg("EX").arg(seconds(keep));
        self.link.command(Access::Write, &command).await.map(drop).map_err(told)
    }

    /// See [`super::super::Backend::groups`].
    pub(super) async fn records(&self, ids: &[GroupId]) -> Result<Vec<Option<GroupMeta>>, StoreError> {
        let meta = |id: &GroupId, (_, record): (Vec<u8>, GroupRecord)| GroupMeta {
            id: id.clone(),
            tasks: record.tasks,
            is_triggered: record.is_triggered,
            created_at: record.created_at,
        };
        let found = self.record_texts(ids).await?;
        Ok(ids.iter().zip(found).map(|(id, found)| found.map(|found| meta(id, found))).collect())
    }

    /// Records as they stand there, and as they read; `None`: what is there, if anything, is none.
    async fn record_texts(&self, ids: &[GroupId]) -> Result<Vec<Option<(Vec<u8>, GroupRecord)>>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH_MAX) {
            let mut pipeline = Pipeline::new();
            for id in ids {
                pipeline.cmd("GET").arg(id.as_str());
            }
            for answer in self.link.pipeline(Access::Read, &pipeline).await.map_err(told)? {
                found.push(match answer {
                    Ok(Value::BulkString(text)) => machinery::decode_group(&text).ok().map(|record| (text, record)),
                    Ok(_) => None,
                    Err(failure) if failure.why.starts_with("WRONGTYPE") => None,
                    Err(failure) => return Err(told(failure)),
                });
            }
        }
        Ok(found)
    }

    /// See [`super::super::Backend::trigger`].
    pub(super) async fn set_flag(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
    ) -> Result<Triggered, StoreError> {
        if !self.link.is_cluster() {
            return self.set_flag_within(group, message, keep, true).await;
        }
        // The lock is in another slot than the record: it has to be taken, as Machinery's workers do. Whoever stops here
        // leaves it to expire.
        let mine = uuid::Uuid::new_v4().to_string();
        let mut command = redis::cmd("SET");
        command.arg(MUTEX).arg(&mine).arg("NX").arg("PX").arg(MUTEX_MS);
        if self.link.command(Access::Write, &command).await.map_err(told)? != Value::Okay {
            return Ok(Triggered::Busy);
        }
        let answer = self.set_flag_within(group, message, keep, false).await;
        if let Err(failure) = self.link.script(Access::Write, &UNLOCK, &[MUTEX], &[&mine]).await {
            tracing::warn!(error = failure.why, "the lock of chords is kept until it expires");
        }
        answer
    }

    /// Sets the flag: if `is_shared`, only while nobody has the lock; else it is ours.
    async fn set_flag_within(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
        is_shared: bool,
    ) -> Result<Triggered, StoreError> {
        for _ in 0..TRIGGERED_MAX {
            let found = self.record_texts(std::slice::from_ref(group)).await?.pop().flatten();
            let Some((text, record)) = found else { return Ok(Triggered::Unknown) };
            if record.is_triggered {
                let is_ours = record.message.as_deref() == Some(message.as_str());
                return Ok(if is_ours { Triggered::Ours } else { Triggered::Theirs });
            }
            let record = GroupRecord { is_triggered: true, message: Some(message.to_string()), ..record };
            let keep = seconds(keep).to_string();
            let args =
                [&text[..], &machinery::encode_group(&record), keep.as_bytes(), if is_shared { b"1" } else { b"0" }];
            let keys = if is_shared { vec![group.as_str(), MUTEX] } else { vec![group.as_str()] };
            match self.link.script(Access::Write, &TRIGGER, &keys, &args).await.map_err(told)? {
                Value::Int(1) => return Ok(Triggered::Ours),
                Value::Int(2) => return Ok(Triggered::Busy),
                // It was written, or has expired, since it was read.
                _ => {}
            }
        }
        Ok(Triggered::Busy)
    }

    /// See [`super::super::Backend::refresh`].
    pub(super) async fn keep_longer(
        &self,
        group: &GroupId,
        tasks: &[TaskId],
        keep: Duration,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let ms = |keep: Duration| keep.min(KEEP_MAX).as_millis().max(1).to_string();
        let args = [format!("{:020}", now.0), format!("{:020}", now.plus(keep).0), ms(keep / 2), ms(keep)];
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let keys: Vec<&[u8]> =
            std::iter::once(group.as_str()).chain(tasks.iter().map(TaskId::as_str)).map(str::as_bytes).collect();
        for keys in keys.chunks(BATCH_MAX) {
            if self.link.is_cluster() {
                let calls: Vec<_> = keys.iter().map(|key| (vec![*key], args.clone())).collect();
                let answers = self.link.scripts(Access::Write, &REFRESH, &calls).await.map_err(told)?;
                answers.into_iter().try_for_each(|answer| answer.map(drop).map_err(told))?;
            } else {
                self.link.script(Access::Write, &REFRESH, keys, &args).await.map_err(told)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_for_whole_seconds_and_never_for_none() {
        let kept = [0, 1, 1_000, 1_001, u64::MAX].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(kept, [1, 1, 1, 2, KEEP_MAX.as_secs()]);
    }
}
