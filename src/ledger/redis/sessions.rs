//! Sessions and their renewal numbers.

use bytes::Bytes;
use prost::Message;

use crate::error::StoreError;
use crate::ledger::record::SessionRecord;
use crate::ledger::{Lease, Session};
use crate::link::redis::Script;
use crate::task::record::RecordError;
use crate::task::{MessageKey, SessionId};

use super::layout::{self, RENEWALS, SESSIONS, SESSIONS_ORDER};
use super::leases;
use super::store::{self, Pieces, Store};

static ATTACH: Script = Script::new(include_str!("scripts/attach.lua"));
static RENEW: Script = Script::new(include_str!("scripts/renew.lua"));
static CLOSE: Script = Script::new(include_str!("scripts/close.lua"));

/// Records a session.
pub(super) async fn attach(store: &Store, session: &Session) -> Result<bool, StoreError> {
    let args = [
        layout::text(session.id.as_str()),
        layout::padded(session.attach),
        SessionRecord::from(session).encode_to_vec().into(),
        layout::number(u8::from(session.attach == 1)),
    ];
    Ok(store::int(&store.run(&ATTACH, &args).await?)? == 1)
}

/// The session as recorded.
pub(super) async fn read(store: &Store, id: &SessionId) -> Result<Option<Session>, StoreError> {
    let found = store.read(redis::cmd("HGET").arg(SESSIONS).arg(id.as_str())).await?;
    store::bytes(found)?.map(|bytes| session(id.as_str(), bytes)).transpose()
}

fn session(id: &str, bytes: Bytes) -> Result<Session, StoreError> {
    let record: SessionRecord = store::decode(id, bytes)?;
    record.try_into().map_err(|error: RecordError| store::corrupt(id, error))
}

/// The sessions after `after`.
pub(super) async fn page(store: &Store, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
    let ids = store.page(SESSIONS_ORDER, after.map(SessionId::as_str), max).await?;
    let found = store.fields(SESSIONS, &ids).await?;
    // One that was closed between the two looks is passed over.
    ids.iter().zip(found).filter_map(|(id, bytes)| Some(session(id, bytes?))).collect()
}

/// Raises the renewal numbers.
pub(super) async fn renew(store: &Store, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError> {
    let mut renewed = Vec::with_capacity(sessions.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(sessions, |_| 0) {
        let args: Vec<_> = piece.iter().map(|id| layout::text(id.as_str())).collect();
        for answer in store::list(pieces.next(store.run(&RENEW, &args).await)?)? {
            renewed.push(store::int(&answer)? == 1);
        }
    }
    Ok(renewed)
}

/// All renewal numbers.
pub(super) async fn renewals(store: &Store) -> Result<Vec<(SessionId, u64)>, StoreError> {
    let all = store::text_pairs(store.read(redis::cmd("HGETALL").arg(RENEWALS)).await?)?;
    let one =
        |(id, number): (String, String)| Ok((SessionId::trusted(id), store::parsed("a renewal number", &number)?));
    all.into_iter().map(one).collect()
}

/// Ends a session, unless it was renewed; answers its live leases.
pub(super) async fn close(
    store: &Store,
    session: &SessionId,
    renewal: Option<u64>,
) -> Result<Option<Vec<Lease>>, StoreError> {
    let number = renewal.map_or_else(String::new, |number| number.to_string());
    let answer = store.run(&CLOSE, &[layout::text(session.as_str()), layout::text(&number)]).await?;
    if answer == redis::Value::Nil {
        return Ok(None);
    }
    // Closed already: should the leases not be readable now, they are answered when it is closed again.
    let held: Vec<MessageKey> = store::texts(answer)?.into_iter().map(MessageKey::trusted).collect();
    leases::read_live(store, &held).await.map(Some)
}
