//! How many tokens a model makes of a byte of text, learned from what its provider reports.

/// Tokens per byte until something is learned: the four bytes a token of English, which OpenAI's own estimate on
/// admission goes by.
const PRIOR: f64 = 0.25;
/// Tokens of an image or sound until something is learned: about what a large image costs at OpenAI's high detail.
const PAYLOAD_PRIOR: f64 = 1_000.0;
/// Samples that the prior weighs as much as.
const PRIOR_SAMPLES: f64 = 8.0;
/// Older samples fade: after so many more, one counts a third as much.
const MEMORY: f64 = 500.0;
/// Shorter texts say little: rounding and a request's fixed part outweigh them.
const SHORTEST: u64 = 64;
/// Standard deviations above the mean that nine of ten requests stay below, if they spread as errors do.
const UPPER: f64 = 1.28;
/// Bytes that a token may stand for at most: the longest in common vocabularies are runs of 128 spaces.
const LONGEST_TOKEN: u64 = 128;

/// A mean and a spread that forget.
#[derive(Clone, Copy, Debug)]
struct Faded {
    weight: f64,
    mean: f64,
    /// Sum of the squared deviations, faded too.
    square: f64,
}

impl Faded {
    const fn new(mean: f64) -> Self {
        Self { weight: PRIOR_SAMPLES, mean, square: 0.0 }
    }

    fn learn(&mut self, value: f64) {
        let keep = 1.0 - 1.0 / MEMORY;
        self.weight = self.weight * keep + 1.0;
        let off = value - self.mean;
        self.mean += off / self.weight;
        self.square = self.square * keep + off * (value - self.mean);
    }

    fn upper(&self) -> f64 {
        self.mean + UPPER * (self.square / self.weight).sqrt()
    }
}

/// What one model makes of texts and payloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputRatio {
    per_byte: Faded,
    per_payload: Faded,
}

impl Default for InputRatio {
    fn default() -> Self {
        Self { per_byte: Faded::new(PRIOR), per_payload: Faded::new(PAYLOAD_PRIOR) }
    }
}

impl InputRatio {
    /// A request of this much text and so many payloads was reported with these input tokens.
    pub(super) fn learn(&mut self, text_bytes: u64, payloads: u32, tokens: u64) {
        if payloads > 0 {
            let of_text = self.per_byte.mean * text_bytes as f64;
            self.per_payload.learn((tokens as f64 - of_text).max(0.0) / f64::from(payloads));
        } else if text_bytes >= SHORTEST {
            // A proxy that reports nonsense must not stop a lane: a token is at least a quarter of a byte.
            self.per_byte.learn((tokens as f64 / text_bytes as f64).min(4.0));
        }
    }

    /// The tokens to expect, or at the upper side so many that nine of ten requests stay below.
    pub(super) fn tokens(&self, text_bytes: u64, payloads: u32, upper: bool) -> u64 {
        let side = |faded: &Faded| if upper { faded.upper() } else { faded.mean };
        let tokens = text_bytes as f64 * side(&self.per_byte) + f64::from(payloads) * side(&self.per_payload);
        // A hair less, so that what comes out whole stays whole.
        (tokens - 1e-6).ceil().max(0.0) as u64
    }
}

/// The tokens that a text has at least, whatever the model.
pub(super) const fn at_least(text_bytes: u64) -> u64 {
    text_bytes / LONGEST_TOKEN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_prior_is_the_usual_formula() {
        let ratio = InputRatio::default();
        assert_eq!(ratio.tokens(1_000, 0, true), 250);
        assert_eq!(ratio.tokens(1_001, 0, false), 251);
        assert_eq!(ratio.tokens(0, 2, false), 2_000);
    }

    proptest! {
        /// A provider that charges ⌈bytes / 4⌉ is never charged less, and hardly more.
        #[test]
        fn a_formula_is_found_and_not_undercut(sizes in prop::collection::vec(800..32_000_u64, 1..200)) {
            let mut ratio = InputRatio::default();
            let (mut charged, mut estimated) = (0, 0);
            for bytes in sizes {
                let tokens = ratio.tokens(bytes, 0, true);
                prop_assert!(tokens >= bytes.div_ceil(4), "{} of {}", tokens, bytes);
                (charged, estimated) = (charged + bytes.div_ceil(4), estimated + tokens);
                ratio.learn(bytes, 0, bytes.div_ceil(4));
            }
            prop_assert!(estimated as f64 <= charged as f64 * 1.002, "{} for {}", estimated, charged);
        }

        #[test]
        fn another_ratio_is_learned_and_its_upper_side_covers_most(per_byte in 0.1..0.8_f64, seed in any::<u64>()) {
            let mut ratio = InputRatio::default();
            let mut dice = seed;
            let mut spread = || {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                0.8 + 0.4 * (dice >> 40) as f64 / f64::from(1 << 24)
            };
            for _ in 0..2_000 {
                ratio.learn(4_000, 0, (4_000.0 * per_byte * spread()) as u64);
            }
            let expected = 4_000.0 * per_byte;
            let mean = ratio.tokens(4_000, 0, false) as f64;
            prop_assert!((mean / expected - 1.0).abs() < 0.05, "{} for {}", mean, expected);
            let upper = ratio.tokens(4_000, 0, true) as f64;
            prop_assert!((1.05..1.25).contains(&(upper / expected)), "{} for {}", upper, expected);
        }

        #[test]
        fn no_report_makes_an_estimate_absurd(reports in prop::collection::vec((0..100_000_u64, 0..4_u32, any::<u32>()), 0..50)) {
            let mut ratio = InputRatio::default();
            for (bytes, payloads, tokens) in reports {
                ratio.learn(bytes, payloads, u64::from(tokens));
            }
            prop_assert!(ratio.tokens(1_000, 0, true) <= 12_000);
        }
    }
}
