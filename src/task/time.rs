//! A moment as Machinery writes it: nanoseconds and the zone of whoever wrote it.

use crate::clock::WallTime;

/// A moment with its offset from UTC. Its JSON is RFC 3339 as Go prints it (`wire`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z; Go's zero time, year 1, is -62,135,596,800.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
    /// Minutes east of UTC, for printing only.
    pub offset_minutes: i16,
}

impl Timestamp {
    /// Go's zero time, which stands for "not known".
    pub const ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0, offset_minutes: 0 };

    /// `wall` in UTC.
    pub fn from_wall(wall: WallTime) -> Self {
        Self {
            seconds: i64::try_from(wall.0 / 1_000_000_000).unwrap_or(i64::MAX),
            nanos: (wall.0 % 1_000_000_000) as u32,
            offset_minutes: 0,
        }
    }

    /// As wall time: 1970 for anything before it, the end of wall time for anything after that.
    pub fn to_wall(self) -> WallTime {
        let Ok(seconds) = u64::try_from(self.seconds) else { return WallTime(0) };
        WallTime(seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(self.nanos)))
    }
}
