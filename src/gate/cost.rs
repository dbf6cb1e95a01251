//! What a call takes, and what it turns out to have used.

use crate::domain::limits::Dimension;

/// What a call takes from every level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Units of the requests budgets; 1 for a call.
    pub requests: u32,
    /// Input tokens reserved: an estimate.
    pub input_tokens: u64,
    /// Output tokens reserved: an estimate, or the most that the call allows.
    pub output_tokens: u64,
    /// Bytes of its body, held until its result is durable.
    pub memory: u64,
}

impl Cost {
    /// What it takes of a budget, before any clipping.
    pub(super) const fn units(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Requests => self.requests as u64,
            Dimension::Tokens => self.input_tokens.saturating_add(self.output_tokens),
            Dimension::InputTokens => self.input_tokens,
            Dimension::OutputTokens => self.output_tokens,
        }
    }

    /// What it takes in each dimension.
    pub fn by_dimension(&self) -> [(Dimension, u64); 4] {
        Dimension::ALL.map(|dimension| (dimension, self.units(dimension)))
    }

    /// What two calls take together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The larger of two in each part.
    #[must_use]
    pub fn or_larger(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        let requests = of(self.requests.into(), other.requests.into());
        Self {
            requests: u32::try_from(requests).unwrap_or(u32::MAX),
            input_tokens: of(self.input_tokens, other.input_tokens),
            output_tokens: of(self.output_tokens, other.output_tokens),
            memory: of(self.memory, other.memory),
        }
    }

    /// What a budget of `limit` reserves for it.
    ///
    /// Where actuals count in the end, output is a guess that must not idle the level: at most half a
    /// period's budget. What is above the whole limit is let in alone, when the last period is empty.
    pub(super) fn reserved(&self, dimension: Dimension, accounting: Accounting, limit: u64) -> u64 {
        let output = match accounting {
            Accounting::Actual { .. } => self.output_tokens.min((limit / 2).max(1)),
            Accounting::Admission => self.output_tokens,
        };
        Self { output_tokens: output, ..*self }.units(dimension).min(limit)
    }

    /// The part of a certain cost that every level's charge will have in the end.
    pub(super) const fn certain(&self, dimension: Dimension, accounting: Accounting) -> u64 {
        match (dimension, accounting) {
            // What was allowed need not be used.
            (Dimension::OutputTokens, Accounting::Actual { .. }) => 0,
            (Dimension::Tokens, Accounting::Actual { .. }) => self.input_tokens,
            _ => self.units(dimension),
        }
    }
}

/// How a provider charges tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accounting {
    /// By its own estimate when it admits a call, whatever the call uses: `OpenAI` and unknown providers.
    #[default]
    Admission,
    /// What was used in the end: Anthropic.
    Actual {
        /// Whether input that its cache served costs nothing.
        cached_input_free: bool,
    },
}

/// Tokens that a call used, by its provider's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokensUsed {
    /// Input tokens, those from a cache included.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Those of the input that the provider's cache served.
    pub cached: u64,
}

impl TokensUsed {
    /// What counts of it in a budget.
    pub(super) fn units(&self, dimension: Dimension, accounting: Accounting) -> u64 {
        let input = match accounting {
            Accounting::Actual { cached_input_free: true } => self.input.saturating_sub(self.cached),
            Accounting::Actual { .. } | Accounting::Admission => self.input,
        };
        match dimension {
            Dimension::Requests => 0,
            Dimension::Tokens => input.saturating_add(self.output),
            Dimension::InputTokens => input,
            Dimension::OutputTokens => self.output,
        }
    }
}

/// A limit that a call can never satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The level's name.
    pub level: std::sync::Arc<str>,
    /// What the limit counts.
    pub dimension: Dimension,
    /// Units per period.
    pub limit: u64,
    /// Units that the call needs.
    pub needed: u64,
}
