//! Limits learned from what a provider says about them, where that is allowed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Gate;
use super::correction::Shadow;
use super::level::{Change, Level, LevelId, rates_of};
use super::micros::micros_of;
use crate::domain::limits::{Dimension, Limits, Rate};
use crate::domain::quota::QuotaReading;
use crate::domain::time::Timestamp;

/// Providers that name no period count by the minute.
const USUAL_PERIOD: Duration = Duration::from_secs(60);

/// A limit that a level learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedLimit {
    /// What it counts.
    pub dimension: Dimension,
    /// Its period in microseconds.
    pub period_us: i64,
    /// Units per period.
    pub amount: u64,
    /// Whether it was found by probing an upstream that says nothing.
    #[serde(default)]
    pub probed: bool,
}

impl LearnedLimit {
    /// The limit as a rate.
    pub(super) fn rate(&self) -> Rate {
        let period = Duration::from_micros(u64::try_from(self.period_us).unwrap_or(1).max(1));
        Rate { amount: self.amount.max(1), period }
    }
}

/// What was said about one dimension.
#[derive(Debug)]
pub(super) struct Heard {
    dimension: Dimension,
    newest: Timestamp,
    /// The last limit named: adopted when it is named again.
    limit: Option<(u64, Duration)>,
    pub(super) shadow: Shadow,
}

/// What a level was told, and what follows for its limits.
#[derive(Debug, Default)]
pub(super) struct Learning {
    pub(super) configured: Limits,
    pub(super) learned: Vec<LearnedLimit>,
    /// Lower limits that other workers have configured: what is counted, the period in microseconds, the amount.
    pub(super) lowest: Vec<(Dimension, i64, u64)>,
    heard: Vec<Heard>,
}

impl Learning {
    /// Whether a limit in this dimension may be learned.
    pub(super) fn may_learn(&self, dimension: Dimension) -> bool {
        match self.configured.learn {
            Some(learn) => learn,
            None => rates(&self.configured, dimension).is_empty(),
        }
    }

    /// The limits that hold: the configured ones, and learned ones never above those.
    fn effective(&self) -> Limits {
        let mut limits = self.configured.clone();
        for learned in self.learned.iter().filter(|learned| self.may_learn(learned.dimension)) {
            let rate = learned.rate();
            let list = rates_mut(&mut limits, learned.dimension);
            match list.iter_mut().find(|held| held.period == rate.period) {
                Some(held) => held.amount = held.amount.min(rate.amount),
                None => list.push(rate),
            }
        }
        for (dimension, period_us, amount) in &self.lowest {
            let mut held = rates_mut(&mut limits, *dimension).iter_mut();
            if let Some(held) = held.find(|held| micros_of(held.period) == *period_us) {
                held.amount = held.amount.min(*amount).max(1);
            }
        }
        limits
    }

    /// The limits as configured.
    pub(super) fn configured_rates(&self) -> impl Iterator<Item = (Dimension, Rate)> {
        rates_of(&self.configured)
    }

    /// Takes a limit over; tells whether anything changed.
    pub(super) fn learn(&mut self, learned: LearnedLimit) -> bool {
        let same = |held: &&mut LearnedLimit| {
            held.dimension == learned.dimension && (held.period_us == learned.period_us || held.probed)
        };
        match self.learned.iter_mut().find(same) {
            Some(held) => std::mem::replace(held, learned) != learned,
            None => {
                self.learned.push(learned);
                true
            }
        }
    }

    /// Hears a limit; tells whether it was named twice in a row and is another one.
    fn hear(&mut self, dimension: Dimension, sent_at: Timestamp) -> Option<&mut Heard> {
        let place = self.heard.iter().position(|heard| heard.dimension == dimension);
        let place = place.unwrap_or_else(|| {
            self.heard.push(Heard { dimension, newest: sent_at, limit: None, shadow: Shadow::default() });
            self.heard.len() - 1
        });
        let heard = self.heard.get_mut(place)?;
        if sent_at < heard.newest {
            return None;
        }
        heard.newest = sent_at;
        Some(heard)
    }
}

fn rates(limits: &Limits, dimension: Dimension) -> &Vec<Rate> {
    match dimension {
        Dimension::Requests => &limits.requests,
        Dimension::Tokens => &limits.tokens,
        Dimension::InputTokens => &limits.input_tokens,
        Dimension::OutputTokens => &limits.output_tokens,
    }
}

fn rates_mut(limits: &mut Limits, dimension: Dimension) -> &mut Vec<Rate> {
    match dimension {
        Dimension::Requests => &mut limits.requests,
        Dimension::Tokens => &mut limits.tokens,
        Dimension::InputTokens => &mut limits.input_tokens,
        Dimension::OutputTokens => &mut limits.output_tokens,
    }
}

impl Level {
    /// Applies what is configured and learned.
    pub(super) fn apply_limits(&mut self, jitter: i64, change: Option<Change>) {
        let limits = self.learning.effective();
        self.set_limits(&limits, jitter, change);
        for budget in &mut self.budgets {
            let (dimension, rate) = budget.rate();
            let lowest = (dimension, micros_of(rate.period), rate.amount);
            budget.learned = !rates(&self.learning.configured, dimension).contains(&rate)
                && !self.learning.lowest.contains(&lowest);
        }
    }

    /// A limit has just been learned from a reading: what is missing of it counts, where that is known, instead of
    /// what another limit let through.
    ///
    /// Of a bucket, what is left says all. In a window our own calls lapse when they do, however little is left.
    fn adopt(
        &mut self,
        (reading, sent_at): (&QuotaReading, Timestamp),
        period: Duration,
        is_new: bool,
        now: Timestamp,
    ) {
        let Self { budgets, learning, closure, .. } = self;
        let dimension = reading.dimension;
        let Some(heard) = learning.heard.iter_mut().find(|heard| heard.dimension == dimension) else {
            return;
        };
        let Some(budget) = budgets.iter_mut().find(|budget| budget.has_period(dimension, period)) else {
            return;
        };
        // Tokens that were used before nobody counted.
        let calls = (is_new && dimension == Dimension::Requests).then(|| closure.cooldown.calls());
        let missing = reading.limit.zip(reading.remaining).map(|(limit, left)| limit.saturating_sub(left));
        if is_new {
            heard.shadow = Shadow::default();
        }
        heard.shadow.restart(now);
        let Some(missing) = missing else { return };
        if let Some(calls) = calls {
            let foreign = budget.adopt_calls(calls, missing, now);
            heard.shadow.knows_all(foreign, period, now);
        } else if !is_new && heard.shadow.is_bucket() {
            budget.adopt_missing(missing, sent_at);
        }
    }
}

impl Gate {
    /// Takes what a provider says about one of a level's limits.
    ///
    /// A limit that is named twice in a row, by the newest calls, holds from then on, where the level may
    /// learn it. If less is left than what this service used explains, somebody else uses the key: the
    /// difference becomes a debt. What can't be true changes nothing. `sent_at`: when the call was admitted
    /// that brought it; older ones than the newest seen change nothing either.
    pub fn observe(&mut self, id: LevelId, reading: &QuotaReading, sent_at: Timestamp, now: Timestamp) {
        let now = self.move_clock(now);
        let Some(index) = self.levels.find(id.0).filter(|_| reading.is_plausible()) else { return };
        let level = &mut self.levels[index];
        let Some(heard) = level.learning.hear(reading.dimension, sent_at) else { return };
        let period = reading.period.unwrap_or(USUAL_PERIOD);
        let again =
            reading.limit.is_some_and(|limit| heard.limit.replace((limit, period)) == Some((limit, period)));
        if let Some(amount) = reading.limit.filter(|_| again)
            && level.learning.may_learn(reading.dimension)
        {
            let (dimension, period_us) = (reading.dimension, micros_of(period));
            if level.learning.learn(LearnedLimit { dimension, period_us, amount, probed: false }) {
                let is_new = !level.budgets.iter().any(|budget| budget.has_period(dimension, period));
                self.take_learned(index, now);
                self.levels[index].adopt((reading, sent_at), period, is_new, now);
                self.offer(index, now);
            }
        }
        self.correct(index, (reading, sent_at), period, now);
    }

    /// The limits that a level learned so far.
    pub fn learned_limits(&self, id: LevelId) -> Vec<LearnedLimit> {
        self.levels.find(id.0).map_or_else(Vec::new, |index| self.levels[index].learning.learned.clone())
    }

    /// A level's learned limits changed: they hold at once, without a burst.
    pub(super) fn apply_learned(&mut self, index: u32, now: Timestamp) {
        self.take_learned(index, now);
        self.offer(index, now);
    }

    fn take_learned(&mut self, index: u32, now: Timestamp) {
        let change = Change { now, number: self.admissions };
        self.levels[index].apply_limits(self.jitter, Some(change));
        self.mark_news(index);
    }

    /// Compares what is left with what this service used.
    fn correct(
        &mut self,
        index: u32,
        (reading, sent_at): (&QuotaReading, Timestamp),
        period: Duration,
        now: Timestamp,
    ) {
        let level = &mut self.levels[index];
        let speed = level.speed(now);
        let Some(budget) = level.budgets.iter_mut().find(|it| it.has_period(reading.dimension, period))
        else {
            return;
        };
        let Some(heard) = level.learning.heard.iter_mut().find(|it| it.dimension == reading.dimension) else {
            return;
        };
        let (_, rate) = budget.rate();
        heard.shadow.read_counting(reading, rate, sent_at);
        if reading.limit == Some(rate.amount)
            && let Some(left) = reading.remaining
            && heard.shadow.turns_out_a_bucket(sent_at, rate)
        {
            budget.adopt_missing(rate.amount.saturating_sub(left), sent_at);
        }
        let foreign = heard.shadow.foreign_use(reading, (sent_at, now), budget);
        if foreign > 0 {
            budget.charge_foreign(foreign, speed, now);
            self.note_charge(index, now);
            self.offer(index, now);
        }
    }
}
