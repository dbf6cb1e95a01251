//! Chance that can be repeated: a pure function of the seed and of what is being decided.
//!
//! A stateful generator would make the faults depend on the order in which calls happen to
//! arrive, so that no two runs of a concurrent client would see the same ones.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// What is being decided, so that one call's latency and its fault are independent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Latency = 0,
    LatencySecond = 1,
    Fault = 2,
    FaultKind = 3,
    RequestId = 4,
}

/// The call that something is decided for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throw {
    seed: u64,
    subject: u64,
    attempt: u64,
}

impl Throw {
    /// For the `attempt`-th call of the request that hashes to `subject`.
    pub(super) fn new(seed: u64, subject: u64, attempt: u64) -> Self {
        Self { seed, subject, attempt }
    }

    /// 64 bits, evenly distributed.
    pub(super) fn bits(self, purpose: Purpose) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed, purpose as u64);
        hasher.write_u64(self.subject);
        hasher.write_u64(self.attempt);
        hasher.finish()
    }

    /// A number in [0, 1).
    pub(super) fn fraction(self, purpose: Purpose) -> f64 {
        (self.bits(purpose) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A number that stands for some bytes: an id, or a body without one.
pub(super) fn subject_of(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_even_and_repeatable() {
        let draw = |number| Throw::new(7, number, 1).fraction(Purpose::Fault);
        let below = (0..100_000).filter(|number| draw(*number) < 0.3).count();
        assert!((29_400..30_600).contains(&below), "{below}");
        assert_eq!(draw(5).to_bits(), draw(5).to_bits());
        assert_ne!(draw(5).to_bits(), Throw::new(8, 5, 1).fraction(Purpose::Fault).to_bits());
    }
}
