//! `ServerService`.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, stream};
use tonic::{Request, Response, Status, async_trait};

use super::convert::{session, time};
use super::generated::server_service_server::ServerService;
use super::proto::*;
use super::{Api, answer};
use crate::service::types::Settings;

// Every cargo feature, and whether this build has it.
const FEATURES: [(&str, bool); 7] = [
    ("embedded", cfg!(feature = "embedded")),
    ("redis", cfg!(feature = "redis")),
    ("amqp", cfg!(feature = "amqp")),
    ("sqs", cfg!(feature = "sqs")),
    ("mongodb", cfg!(feature = "mongodb")),
    ("memcached", cfg!(feature = "memcached")),
    ("otlp", cfg!(feature = "otlp")),
];

/// Bytes of a backup in one message: well below the 4 MiB that clients take.
const BACKUP_BYTES_MAX: usize = 1 << 20;

#[async_trait]
impl ServerService for Api {
    async fn get_server_info(
        &self,
        _: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        let settings = &self.service.settings();
        let features = FEATURES.iter().filter(|(_, built)| *built).map(|(name, _)| (*name).to_owned());
        answer(GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            guarantees: Some(session::guarantees(&self.service.guarantees())),
            limits: Some(limits(settings)),
            default_queue: settings.default_queue.to_string(),
            features: features.collect(),
            server_time: time::wall(self.service.wall()),
        })
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupResponse, Status>> + Send>>;

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let pieces = stream::unfold((self.service.backup()?, Bytes::new()), |(mut backup, mut left)| async move {
            if left.is_empty() {
                match backup.next().await? {
                    Ok(piece) => left = piece,
                    Err(error) => return Some((Err(error.into()), (backup, Bytes::new()))),
                }
            }
            let data = left.split_to(left.len().min(BACKUP_BYTES_MAX));
            Some((Ok(BackupResponse { data }), (backup, left)))
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}

fn limits(settings: &Settings) -> Limits {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Limits {
        task_bytes_max: settings.task_bytes_max as u64,
        result_bytes_max: settings.result_bytes_max as u64,
        batch_max: count(settings.batch_max),
        args_max: count(settings.args_max),
        headers_max: count(settings.headers_max),
        delay_max: Some(time::to_duration(settings.delay_max)),
        session_leases_max: settings.session_leases_max,
        message_bytes_max: settings.message_bytes_max as u64,
        callback_depth_max: settings.callback_depth_max,
        group_tasks_max: u32::try_from(settings.group_tasks_max).unwrap_or(u32::MAX),
        chain_tasks_max: u32::try_from(settings.chain_tasks_max).unwrap_or(u32::MAX),
        sessions_max: settings.sessions_max,
        request_window: Some(time::to_duration(settings.request_window)),
    }
}
