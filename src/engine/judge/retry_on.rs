//! Which failures are tried again.

/// The statuses that a set may hold.
const FIRST_STATUS: u16 = 400;
const STATUSES: u16 = 200;

/// A set of failures. A lane's refusals and stops are not failures of an item and not in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    statuses: [u64; STATUSES.div_ceil(64) as usize],
    timeouts: bool,
    network: bool,
}

impl RetryOn {
    /// Nothing is tried again.
    pub const NONE: Self = Self { statuses: [0; 4], timeouts: false, network: false };

    /// What passes by itself, as far as anybody knows: 408, 409 of a lock, 425, server errors,
    /// timeouts and transport errors.
    pub const USUAL: Self = Self::NONE
        .with_status(408)
        .with_status(409)
        .with_status(425)
        .with_server_errors()
        .with_timeouts()
        .with_network();

    /// Answers of this status too. Of 409 only those about a lock are meant, and a status that is not
    /// from 400 to 599 changes nothing.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        let place = status.wrapping_sub(FIRST_STATUS);
        if place < STATUSES {
            self.statuses[place as usize / 64] |= 1 << (place % 64);
        }
        self
    }

    /// Answers of status 500 to 599 too, and what counts as such: 498, with which Groq says that its
    /// capacity is used up, and answers that are no answer.
    #[must_use]
    pub const fn with_server_errors(self) -> Self {
        let mut with = self.with_status(498);
        let mut status = 500;
        while status < 600 {
            with = with.with_status(status);
            status += 1;
        }
        with
    }

    /// Calls that one of our timeouts ended too.
    #[must_use]
    pub const fn with_timeouts(self) -> Self {
        Self { timeouts: true, ..self }
    }

    /// Calls without a connection, or with one that broke, too.
    #[must_use]
    pub const fn with_network(self) -> Self {
        Self { network: true, ..self }
    }

    pub(super) const fn status(&self, status: u16) -> bool {
        let place = status.wrapping_sub(FIRST_STATUS);
        place < STATUSES && self.statuses[place as usize / 64] & 1 << (place % 64) != 0
    }

    pub(super) const fn invalid_answers(&self) -> bool {
        self.status(500)
    }

    pub(super) const fn timeouts(&self) -> bool {
        self.timeouts
    }

    pub(super) const fn network(&self) -> bool {
        self.network
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self::USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let usual = |status| matches!(status, 408 | 409 | 425 | 498 | 500..=599);
        for status in 0..=1_000 {
            assert!(!RetryOn::NONE.status(status));
            assert_eq!(RetryOn::USUAL.status(status), usual(status), "{status}");
            let one = RetryOn::NONE.with_status(status);
            let held: Vec<u16> = (0..=1_000).filter(|&other| one.status(other)).collect();
            let expected = if (400..600).contains(&status) { vec![status] } else { vec![] };
            assert_eq!(held, expected);
        }
    }
}
