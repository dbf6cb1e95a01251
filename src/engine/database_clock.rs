//! How far the database's clock is from this process's: pure.
//!
//! Slots are moments of the database. What an exchange tells of its clock is exact to half of the round trip, so the
//! quickest exchange of the last minute is the one that is believed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::time::Timestamp;

/// Exchanges that are compared.
const KEPT: usize = 32;
/// How long one is worth anything: two good clocks move against each other by a few milliseconds in that time.
const WORTH: Duration = Duration::from_secs(60);
/// Beyond what their round trips explain: the database's clock was set.
const SET: i64 = 100_000;

/// What one exchange told.
#[derive(Clone, Copy, Debug)]
struct Reading {
    received: Timestamp,
    /// Half of the round trip, in microseconds: by so much the offset may be off.
    doubt: i64,
    offset: i64,
}

/// The readings of late.
#[derive(Debug, Default)]
pub(super) struct DatabaseClock {
    readings: VecDeque<Reading>,
}

impl DatabaseClock {
    /// Takes a reading: when an exchange was sent and answered here, and when it came and was answered there, in
    /// microseconds since the epoch. In between it may have waited for rows that others held, which says nothing of the
    /// way. Tells by how many microseconds the clock here is ahead.
    pub(super) fn read(
        &mut self,
        (sent, received): (Timestamp, Timestamp),
        (came_us, answered_us): (i64, i64),
    ) -> i64 {
        let waited = answered_us.saturating_sub(came_us).max(0);
        let way = received.micros().saturating_sub(sent.micros()).saturating_sub(waited);
        let doubt = way.max(0) / 2;
        let offset = sent.micros().saturating_add(doubt).saturating_sub(came_us);
        let reading = Reading { received, doubt, offset };
        let was_set = |kept: &Reading| (kept.offset - offset).abs() > kept.doubt + doubt + SET;
        if self.readings.iter().any(was_set) {
            self.readings.clear();
        }
        while self.readings.front().is_some_and(|oldest| received.since(oldest.received) > WORTH) {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
        if self.readings.len() > KEPT {
            self.readings.pop_front();
        }
        let best = self.readings.iter().min_by_key(|reading| reading.doubt);
        best.map_or(offset, |best| best.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000 + micros)
    }

    /// An exchange that waited for nobody.
    fn read(clock: &mut DatabaseClock, here: (Timestamp, Timestamp), database_us: i64) -> i64 {
        clock.read(here, (database_us, database_us))
    }

    #[test]
    fn the_wait_for_a_row_is_not_the_way() {
        let mut clock = DatabaseClock::default();
        let (came, answered) = (at(1_000 - 5_000).micros(), at(1_801_000 - 5_000).micros());
        assert_eq!(clock.read((at(0), at(1_802_000)), (came, answered)), 5_000);
    }

    #[test]
    fn the_quickest_exchange_is_believed() {
        let mut clock = DatabaseClock::default();
        // Ahead by 5,000 µs; the slow exchange took most of its time on the way back.
        assert_eq!(read(&mut clock, (at(0), at(2_000)), at(1_000 - 5_000).micros()), 5_000);
        assert_eq!(read(&mut clock, (at(100_000), at(160_000)), at(101_000 - 5_000).micros()), 5_000);
        assert_eq!(read(&mut clock, (at(200_000), at(200_400)), at(200_200 - 4_990).micros()), 4_990);
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let mut clock = DatabaseClock::default();
        read(&mut clock, (at(0), at(1_000)), at(500).micros());
        let hour = 3_600_000_000;
        assert_eq!(read(&mut clock, (at(10_000), at(90_000)), at(50_000 + hour).micros()), -hour);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut clock = DatabaseClock::default();
        assert_eq!(read(&mut clock, (at(0), at(100)), at(50 - 1_000).micros()), 1_000);
        let later = 61_000_000;
        assert_eq!(
            read(&mut clock, (at(later), at(later + 8_000)), at(later + 4_000 - 1_500).micros()),
            1_500
        );
    }
}
