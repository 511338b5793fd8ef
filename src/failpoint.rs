//! Points at which a test makes a replica crash or stop dead: one at every arrow of sending, granting and settling.
//!
//! Always compiled in, so that what is tested is what is shipped; without a plan a point costs one branch. The program
//! takes its plan from `LINESHAFT_FAILPOINTS`, as `settle.decided=abort@3,send.stated=hang`: at the third time the
//! decision was made the process aborts; the first send stops for ever once its state is written. The word `unfused`
//! makes the server carry out every step for itself, as it must where broker, ledger and backend are different stores,
//! so that the arrows between the steps can be visited on every room.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// After this much of a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// A send was checked; nothing is written.
    SendChecked,
    /// Its names are claimed, nothing else is written (stores that are not fused).
    SendClaimed,
    /// Its lifetime is remembered, its state is not written (stores that are not fused).
    SendLimited,
    /// Its PENDING state is written, the message is not published (stores that are not fused).
    SendStated,
    /// It is published, its claim does not say so (stores that are not fused).
    SendUnmarked,
    /// It is published, the caller has no answer.
    SendPublished,
    /// Messages were taken from the broker, nothing is granted.
    GrantTaken,
    /// The lease is granted, the worker was not told.
    GrantBegun,
    /// A report came, nothing is written.
    SettleReported,
    /// The decision is durable, nobody was told (fused stores: and everything is done).
    SettleDecided,
    /// The end state is visible.
    SettleStated,
    /// Retry or callbacks are published.
    SettlePublished,
    /// The effects are marked done, the message is not acknowledged.
    SettleDone,
    /// The message is acknowledged.
    SettleAcked,
    /// A lease was ended without a decision, the message is still held.
    ReleaseEnded,
    /// A session was closed, its leases are not ended.
    ExpireClosed,
    /// The generation of a requeue is recorded with the dead task, nothing is sent.
    RequeueBegun,
    /// It is sent, and still among the dead.
    RequeuePublished,
    /// A task is marked as cancelled, nobody looked for it.
    CancelMarked,
    /// A cancelled task that waited is granted to be ended, and is not decided.
    CancelBegun,
    /// A task whose time is over is granted to be ended, and is not decided.
    LapseBegun,
    /// A task that waits is granted to be purged, and is not decided.
    PurgeBegun,
    /// Messages that wait were picked to be ended, nothing is granted (brokers that cannot find messages).
    Picked,
    /// A workflow is recorded, nothing of it is sent.
    GroupOpened,
    /// What of it is sent later is announced, nothing is sent.
    GroupAnnounced,
    /// Some of its tasks are sent.
    GroupPartly,
    /// All are sent, its record does not say so.
    GroupSent,
    /// All members of a join have ended, nothing is done about it.
    JoinFull,
    /// Machinery programs see that its callback is being sent, nothing is recorded.
    JoinTriggered,
    /// What follows it is recorded, nothing of it is done.
    JoinFired,
    /// What follows it is done, its record does not say so.
    JoinDone,
}

impl Point {
    /// All on the way of a task that nobody sets aside, so that a test can visit each.
    pub const ALL: [Self; 19] = [
        Self::SendChecked,
        Self::SendClaimed,
        Self::SendLimited,
        Self::SendStated,
        Self::SendUnmarked,
        Self::SendPublished,
        Self::GrantTaken,
        Self::GrantBegun,
        Self::SettleReported,
        Self::SettleDecided,
        Self::SettleStated,
        Self::SettlePublished,
        Self::SettleDone,
        Self::SettleAcked,
        Self::ReleaseEnded,
        Self::ExpireClosed,
        Self::CancelMarked,
        Self::CancelBegun,
        Self::LapseBegun,
    ];

    /// Those of a requeue, which an operator asks for.
    pub const REQUEUE: [Self; 2] = [Self::RequeueBegun, Self::RequeuePublished];

    /// That of a purge.
    pub const PURGE: [Self; 1] = [Self::PurgeBegun];

    /// That of ending what waits where the broker picks messages, whether it is cancelled or purged.
    pub const PICK: [Self; 1] = [Self::Picked];

    /// Those of tasks that belong together: sending them, and what follows when they have ended.
    pub const WORKFLOW: [Self; 8] = [
        Self::GroupOpened,
        Self::GroupAnnounced,
        Self::GroupPartly,
        Self::GroupSent,
        Self::JoinFull,
        Self::JoinTriggered,
        Self::JoinFired,
        Self::JoinDone,
    ];

    /// Its name in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendChecked => "send.checked",
            Self::SendClaimed => "send.claimed",
            Self::SendLimited => "send.limited",
            Self::SendStated => "send.stated",
            Self::SendUnmarked => "send.unmarked",
            Self::SendPublished => "send.published",
            Self::GrantTaken => "grant.taken",
            Self::GrantBegun => "grant.begun",
            Self::SettleReported => "settle.reported",
            Self::SettleDecided => "settle.decided",
            Self::SettleStated => "settle.stated",
            Self::SettlePublished => "settle.published",
            Self::SettleDone => "settle.done",
            Self::SettleAcked => "settle.acked",
            Self::ReleaseEnded => "release.ended",
            Self::ExpireClosed => "expire.closed",
            Self::RequeueBegun => "requeue.begun",
            Self::RequeuePublished => "requeue.published",
            Self::CancelMarked => "cancel.marked",
            Self::CancelBegun => "cancel.begun",
            Self::LapseBegun => "lapse.begun",
            Self::PurgeBegun => "purge.begun",
            Self::Picked => "picked",
            Self::GroupOpened => "group.opened",
            Self::GroupAnnounced => "group.announced",
            Self::GroupPartly => "group.partly",
            Self::GroupSent => "group.sent",
            Self::JoinFull => "join.full",
            Self::JoinTriggered => "join.triggered",
            Self::JoinFired => "join.fired",
            Self::JoinDone => "join.done",
        }
    }
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process aborts, as if killed.
    Abort,
    /// Whoever came here never goes on: the replica is as good as dead at this spot, the stores live on.
    Hang,
}

#[derive(Debug)]
struct Planned {
    action: Action,
    // Visits until it strikes; it strikes once.
    visits_left: u64,
}

/// A plan of failures; the default is none.
#[derive(Debug, Clone, Default)]
pub struct Failpoints {
    plan: Option<Arc<Plan>>,
    unfused: bool,
}

#[derive(Debug)]
struct Plan {
    points: Mutex<HashMap<Point, Planned>>,
    struck: Notify,
}

impl Plan {
    fn new(points: HashMap<Point, Planned>) -> Option<Arc<Self>> {
        (!points.is_empty()).then(|| Arc::new(Self { points: Mutex::new(points), struck: Notify::new() }))
    }
}

impl Failpoints {
    /// `action` at the `visit`th time that `point` is reached, from 1.
    pub fn at(point: Point, action: Action, visit: u64) -> Self {
        let planned = Planned { action, visits_left: visit.max(1) };
        Self { plan: Plan::new(HashMap::from([(point, planned)])), unfused: false }
    }

    /// Resolves when a [`Action::Hang`] has struck.
    pub async fn struck(&self) {
        match &self.plan {
            Some(plan) => plan.struck.notified().await,
            None => std::future::pending().await,
        }
    }

    /// True if the steps that fused stores do at once shall be done one by one.
    pub fn is_unfused(&self) -> bool {
        self.unfused
    }

    /// Reads a plan: `POINT=ACTION[@VISIT]`, comma-separated; actions are `abort` and `hang`.
    ///
    /// # Errors
    /// A sentence that names the part at fault.
    pub fn parse(plan: &str) -> Result<Self, String> {
        let mut points = HashMap::new();
        let mut unfused = false;
        for part in plan.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let wrong = |why: &str| format!("failpoint {part:?}: {why}");
            if part == "unfused" {
                unfused = true;
                continue;
            }
            let (name, action) = part.split_once('=').ok_or_else(|| wrong("write POINT=ACTION[@VISIT]"))?;
            let (action, visit) = action.split_once('@').unwrap_or((action, "1"));
            let point = Point::ALL
                .into_iter()
                .chain(Point::REQUEUE)
                .chain(Point::PURGE)
                .chain(Point::PICK)
                .chain(Point::WORKFLOW)
                .find(|p| p.name() == name)
                .ok_or_else(|| wrong("no such point"))?;
            let action = match action {
                "abort" => Action::Abort,
                "hang" => Action::Hang,
                _ => return Err(wrong("the actions are abort and hang")),
            };
            let visits_left =
                visit.parse().ok().filter(|v| *v > 0).ok_or_else(|| wrong("the visit is a number from 1"))?;
            points.insert(point, Planned { action, visits_left });
        }
        Ok(Self { plan: Plan::new(points), unfused })
    }

    /// Passes `point`, or does not.
    pub async fn reach(&self, point: Point) {
        let Some(plan) = &self.plan else { return };
        let action = {
            let mut points = plan.points.lock();
            let Some(planned) = points.get_mut(&point) else { return };
            planned.visits_left -= 1;
            if planned.visits_left > 0 {
                return;
            }
            let action = planned.action;
            points.remove(&point);
            action
        };
        match action {
            Action::Abort => std::process::abort(),
            Action::Hang => {
                plan.struck.notify_one();
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_and_nonsense_is_named() {
        assert!(Failpoints::parse("settle.decided=abort@3, send.stated=hang").is_ok());
        assert!(Failpoints::parse("unfused").is_ok_and(|f| f.is_unfused()));
        for bad in
            ["x", "settle.decided", "settle.decided=fly", "nowhere=abort", "settle.done=abort@x", "settle.done=abort@0"]
        {
            assert!(Failpoints::parse(bad).is_err_and(|e| e.contains(bad)), "{bad}");
        }
    }

    #[tokio::test]
    async fn it_strikes_at_the_planned_visit_and_only_there() {
        let plan = Failpoints::at(Point::SendStated, Action::Hang, 2);
        plan.reach(Point::SendStated).await;
        plan.reach(Point::SendPublished).await;
        let struck = tokio::time::timeout(std::time::Duration::from_millis(10), plan.reach(Point::SendStated)).await;
        assert!(struck.is_err());
        plan.reach(Point::SendStated).await;
    }
}
