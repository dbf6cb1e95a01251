//! What share of an upstream's calls it refuses whatever its load.
//!
//! A refusal is blamed on the number of calls in flight only where fewer calls in flight are refused less
//! often. So calls are counted by how many were in flight with them, and a number is judged by what
//! happened at half of it and below.
//!
//! Turned down: one share over all calls (eight slots under 64 calls refuse nine of ten, which is no base
//! rate), answers per second (they follow the length of answers and the demand), and trying fewer calls on
//! purpose now and then (it costs throughput for ever; the cuts themselves are the experiment).

/// Refusals from which on a share counts as known, to a third, and as well known, to a fifth.
const KNOWN: f64 = 10.0;
const WELL_KNOWN: f64 = 30.0;
/// A base rate is not above this: the breaker parks a lane that fails at half.
const MOST: f64 = 0.4;
/// A share that does little harm if it is due to the load after all, so that it stays accepted in a fall.
const SMALL: f64 = 0.05;
/// What a fall that helped left of the share that was refused; if it left more, that may be load too, as the
/// next fall tells.
const REST: f64 = 1.0 / 3.0;
/// By how many standard deviations refusals exceed the base rate if they are due to the load, and up to
/// how many they agree with it.
pub(super) const LOAD: f64 = 3.5;
const AGREED: f64 = 1.0;
const AGREED_AT_LAST: f64 = 2.5;
/// Calls that a place remembers, at most: where there are more, old ones fade.
const REMEMBERED: f64 = 2_048.0;
/// Calls from which it is known what happens at present.
const RECENT: f64 = 64.0;
/// For 1 to 2,047 calls in flight and what is above, see [`place`].
const PLACES: usize = 88;

/// How many calls were refused of how many.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    calls: f64,
    refused: f64,
}

impl Tally {
    pub(super) fn new(refused: u32, calls: u32) -> Self {
        Self { calls: calls.into(), refused: refused.into() }
    }

    /// Whether more were refused than a share explains that is this many standard deviations off.
    pub(super) fn exceeds(self, share: f64, deviations: f64) -> bool {
        let expected = self.calls * share;
        // Half a call for the step from one count to the next: at a share of 0 the first one exceeds.
        self.refused > expected + deviations * (expected * (1.0 - share)).sqrt() + 0.5
    }

    /// Whether fewer were refused than a share explains.
    fn falls_short(self, share: f64) -> bool {
        let expected = self.calls * share;
        self.refused < expected - AGREED_AT_LAST * (expected * (1.0 - share)).sqrt()
    }

    /// The share that is hardly exceeded by the true one.
    fn at_most(self) -> f64 {
        (self.refused + 2.0 * self.refused.sqrt() + 2.0) / self.calls
    }

    fn and(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, refused: self.refused + other.refused }
    }

    /// The same share of so many calls at most.
    fn of_last(self, calls: f64) -> Self {
        let part = (calls / self.calls).min(1.0);
        Self { calls: self.calls * part, refused: self.refused * part }
    }

    fn share(self) -> f64 {
        self.refused / self.calls
    }
}

/// What a fall turned out to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Too little is known yet.
    Open,
    /// As many are refused with half as many in flight: this share.
    InVain(f64),
    /// It helped, and this share is left.
    Helped(f64),
    /// So many are refused that there is no telling.
    Failing,
}

/// Calls and refusals by how many calls were in flight.
#[derive(Clone, Debug)]
pub(super) struct BaseRate {
    tallies: [Tally; PLACES],
    accepted: f64,
}

impl Default for BaseRate {
    fn default() -> Self {
        Self { tallies: [Tally::default(); PLACES], accepted: 0.0 }
    }
}

impl BaseRate {
    /// A call that was sent as one of so many is over.
    pub(super) fn note(&mut self, among: u32, refused: bool) {
        let tally = &mut self.tallies[place(among)];
        *tally = tally.and(Tally::new(refused.into(), 1));
        if tally.calls > REMEMBERED {
            *tally = tally.of_last(REMEMBERED / 2.0);
        }
    }

    /// The number of calls falls from this one on: what was known was wrong or is old, but for what
    /// happened there last.
    pub(super) fn falls(&mut self, from: u32) {
        let there = self.tallies[place(from)].of_last(RECENT);
        let accepted = if self.accepted <= SMALL { self.accepted } else { 0.0 };
        *self = Self { accepted, ..Self::default() };
        self.tallies[place(from)] = there;
    }

    /// What the fall from so many shows.
    pub(super) fn judge(&self, from: u32) -> Verdict {
        let Some((pool, share)) = self.below(from) else { return Verdict::Open };
        if pool.share() > MOST {
            return Verdict::Failing;
        }
        let there = self.tallies[place(from)];
        // What is well known by then need not agree so closely.
        let agreed = if pool.refused >= WELL_KNOWN { AGREED_AT_LAST } else { AGREED };
        if there.falls_short(share) {
            // Fewer were refused there: that was before something else changed.
            Verdict::Helped(0.0)
        } else if !there.exceeds(share, agreed) {
            Verdict::InVain(share)
        } else if pool.refused >= WELL_KNOWN || there.exceeds(share, LOAD) {
            Verdict::Helped(if share <= there.share() * REST { share } else { 0.0 })
        } else {
            Verdict::Open
        }
    }

    /// Learns from a fall that is over.
    pub(super) fn learn(&mut self, verdict: Verdict) {
        self.accepted = match verdict {
            Verdict::InVain(share) => share,
            Verdict::Helped(rest) => rest,
            Verdict::Open | Verdict::Failing => 0.0,
        };
    }

    /// The share of so many calls that is refused whatever the load; 0 where nothing is known.
    pub(super) fn expected(&self, among: u32) -> f64 {
        let below = self.below(among).filter(|(pool, _)| pool.share() <= MOST);
        let share = below.map_or(self.accepted, |(_, share)| share);
        share.min(self.least(among).1.at_most())
    }

    /// What happened with half as many and fewer in flight, and the least share among those, if that is known.
    fn below(&self, among: u32) -> Option<(Tally, f64)> {
        if among < 2 {
            return None;
        }
        let (pool, least) = self.least(among / 2);
        (pool.refused >= KNOWN).then(|| (pool, least.share()))
    }

    /// What happened with so many in flight and fewer, and the part of it, from below, that was refused
    /// least: more calls at once are never refused less often, so what happens only above is load.
    fn least(&self, among: u32) -> (Tally, Tally) {
        let (mut pool, mut least) = (Tally::default(), Tally::default());
        for tally in &self.tallies[..=place(among)] {
            pool = pool.and(*tally);
            if least.calls == 0.0 || pool.at_most() < least.at_most() {
                least = pool;
            }
        }
        (pool, least)
    }
}

/// Eight places for each doubling, and one for each number below.
fn place(among: u32) -> usize {
    let among = among.max(1);
    let octave = among.ilog2();
    let eighth = ((u64::from(among) << 3) >> octave) as usize - 8;
    (octave as usize * 8 + eighth).min(PLACES - 1)
}
