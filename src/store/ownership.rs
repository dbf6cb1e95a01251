//! Whose work is whose, and until when: pure. What a worker says of itself is its beat; its own moments are lengths of
//! time since its machine started, as they go on while it is suspended.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::domain::worker::WorkerState;

/// How often a worker beats.
pub(super) const BEAT: Duration = Duration::from_secs(3);
/// A worker that was not heard of for so long, by the database, is dead.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(15);
/// How long after it sent a beat that arrived a worker may start calls. Less than [`DEAD_AFTER`]: when others take its
/// work over, it has stopped already.
const FENCE: Duration = Duration::from_secs(13);
/// Longest time between two beats of one run without a gap: one may be late or lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(7);

/// The moment until which a beat that was sent at `sent` and arrived lets a worker start calls.
pub(super) fn fence(sent: Duration) -> Duration {
    sent + FENCE
}

/// How a worker is, given its row.
pub(super) fn state(beat_at: Timestamp, ended: bool, taken: bool, now: Timestamp) -> WorkerState {
    if ended {
        WorkerState::Ended
    } else if taken || now.since(beat_at) > DEAD_AFTER {
        WorkerState::Dead
    } else {
        WorkerState::Alive
    }
}

/// How long a worker has seen the database take its beats.
///
/// After an outage every other worker looks dead though it is well: nobody judges before the others had the time to
/// be heard of again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// When the first and the last beat of the present run were sent.
    run: Option<(Duration, Duration)>,
}

impl Health {
    /// A beat that was sent at `sent` arrived.
    pub(super) fn beat(&mut self, sent: Duration) {
        let first = match self.run {
            Some((first, last)) if sent.saturating_sub(last) <= LONGEST_PAUSE => first,
            _ => sent,
        };
        self.run = Some((first, sent));
    }

    /// Whether the dead may be told from those that could not be heard.
    pub(super) fn may_take_over(&self, now: Duration) -> bool {
        self.run.is_some_and(|(first, last)| {
            now.saturating_sub(last) <= LONGEST_PAUSE && last.saturating_sub(first) >= DEAD_AFTER
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[rstest]
    #[case::beats(100, false, false, WorkerState::Alive)]
    #[case::just_in_time(85, false, false, WorkerState::Alive)]
    #[case::too_late(84, false, false, WorkerState::Dead)]
    #[case::from_the_future(200, false, false, WorkerState::Alive)]
    #[case::taken_over_though_it_beat(100, false, true, WorkerState::Dead)]
    #[case::ended(10, true, false, WorkerState::Ended)]
    fn a_workers_state_is_told_by_its_row(
        #[case] beat_at: i64,
        #[case] ended: bool,
        #[case] taken: bool,
        #[case] expected: WorkerState,
    ) {
        let now = Timestamp::from_seconds(100);
        assert_eq!(state(Timestamp::from_seconds(beat_at), ended, taken, now), expected);
    }

    #[test]
    fn a_worker_stops_before_it_is_taken_for_dead() {
        // Its beat reached the database no sooner than it was sent.
        assert!(fence(second(10)) < second(10) + DEAD_AFTER);
        assert!(fence(second(10)) > second(10) + BEAT + LONGEST_PAUSE - BEAT, "one lost beat stops nobody");
    }

    #[test]
    fn only_who_saw_the_database_long_enough_takes_over() {
        let mut health = Health::default();
        assert!(!health.may_take_over(second(0)));
        for beat in 0..5 {
            health.beat(second(3 * beat));
            assert!(!health.may_take_over(second(3 * beat)), "{beat}");
        }
        health.beat(second(15));
        assert!(health.may_take_over(second(15)));
        assert!(health.may_take_over(second(22)));
        assert!(!health.may_take_over(second(23)), "it has not seen it lately");
    }

    #[test]
    fn a_gap_begins_anew() {
        let mut health = Health::default();
        for beat in 0..10 {
            health.beat(second(3 * beat));
        }
        // One beat was lost.
        health.beat(second(33));
        assert!(health.may_take_over(second(33)));
        // It was stopped for a while, or the database was away.
        health.beat(second(53));
        assert!(!health.may_take_over(second(53)));
        for beat in 18..=22 {
            health.beat(second(3 * beat));
        }
        assert!(!health.may_take_over(second(66)));
        health.beat(second(69));
        assert!(health.may_take_over(second(69)));
    }
}
