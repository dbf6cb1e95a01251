//! Which lanes may serve a model.

use std::fmt;

use super::description::{Notation, ValueKind};
use super::providers::Provider;
use super::setting::{Mismatch, Setting, quoted, text_of};
use super::tree::Value;
use crate::domain::limits::Limits;

/// A model's name, or a pattern in which each `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that every model matches.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// A pattern of this text, which must not be empty.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every model matches it.
    pub fn is_any(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether it names one model.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether the model matches. Takes time in proportion to both lengths at worst, never exponential.
    pub fn matches(&self, model: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = model.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            // The leftmost place leaves the most for the parts that follow, so no other needs a try.
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// More for patterns that say more: a name before any pattern, then by the characters given.
    fn specificity(&self) -> (bool, usize) {
        (self.is_exact(), self.0.chars().filter(|character| *character != '*').count())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Setting for Pattern {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "pattern",
            examples: &["\"gpt-4o\"", "\"gpt-*\""],
            note: "a model's name, or a pattern in which `*` stands for anything",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        const LONGEST: usize = 256;
        match text_of(value) {
            Some(text) if !text.trim().is_empty() && text.len() <= LONGEST => Ok(Self(text.to_owned())),
            _ => Err(Mismatch::expected("a model's name, or a pattern such as \"gpt-*\"")),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// One `match` entry of a provider: the lane, or with [`LaneRule::each_model`] the lanes, that it makes.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneRule {
    /// The models that it serves.
    pub pattern: Pattern,
    /// Models that it does not serve although they match.
    pub except: Vec<Pattern>,
    /// The name that the provider has for the model; `None`: the same.
    pub upstream_model: Option<String>,
    /// What is limited in this lane, apart from its provider.
    pub limits: Limits,
    /// Lanes of a lower order are preferred.
    pub order: i32,
    /// The share among lanes of the same order; at least 1.
    pub weight: u32,
    /// Whether each model met gets a lane of its own, rather than all of them sharing this one.
    pub each_model: bool,
}

impl LaneRule {
    /// What a provider without lanes has: a lane for every model that is met.
    pub(super) fn every_model() -> Self {
        Self {
            pattern: Pattern::any(),
            except: Vec::new(),
            upstream_model: None,
            limits: Limits::default(),
            order: 0,
            weight: 1,
            each_model: true,
        }
    }

    /// Whether it serves the model.
    pub fn serves(&self, model: &str) -> bool {
        self.pattern.matches(model) && !self.except.iter().any(|pattern| pattern.matches(model))
    }
}

/// A lane that may serve a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// Its provider.
    pub provider: &'a Provider,
    /// Its rule, one of its provider's.
    pub lane: &'a LaneRule,
}

/// The lanes that may serve a model, the preferred one first: at most one of each provider, the one whose
/// pattern says most, by rising order. Empty: no lane serves it.
pub fn route<'a>(providers: &'a [Provider], model: &str) -> Vec<Candidate<'a>> {
    let of_provider = |provider: &'a Provider| {
        let mut best: Option<&LaneRule> = None;
        for lane in provider.lanes.iter().filter(|lane| lane.serves(model)) {
            if best.is_none_or(|known| lane.pattern.specificity() > known.pattern.specificity()) {
                best = Some(lane);
            }
        }
        best.map(|lane| Candidate { provider, lane })
    };
    let mut lanes: Vec<_> = providers.iter().filter_map(of_provider).collect();
    lanes.sort_by_key(|candidate| candidate.lane.order);
    lanes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("gpt-4o", "gpt-4o", true)]
    #[case("gpt-4o", "gpt-4o-mini", false)]
    #[case("gpt-*", "gpt-4o", true)]
    #[case("gpt-*", "gpt-", true)]
    #[case("gpt-*", "xgpt-4", false)]
    #[case("*/*", "meta/llama", true)]
    #[case("*/*", "llama", false)]
    #[case("*-mini", "gpt-4o-mini", true)]
    #[case("a*b*c", "abc", true)]
    #[case("a*b*c", "a-bc-c", true)]
    #[case("a*a", "a", false)]
    #[case("*", "", true)]
    #[case("**", "any", true)]
    fn patterns(#[case] pattern: &str, #[case] model: &str, #[case] matches: bool) {
        assert_eq!(Pattern::new(pattern).matches(model), matches);
    }

    /// The definition, exponential as it is.
    fn matches_by_definition(pattern: &[u8], model: &[u8]) -> bool {
        match pattern.split_first() {
            None => model.is_empty(),
            Some((b'*', rest)) => (0..=model.len()).any(|taken| matches_by_definition(rest, &model[taken..])),
            Some((byte, rest)) => model.first() == Some(byte) && matches_by_definition(rest, &model[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_defined(pattern in "[ab*]{1,8}", model in "[ab]{0,8}") {
            let expected = matches_by_definition(pattern.as_bytes(), model.as_bytes());
            prop_assert_eq!(Pattern::new(&pattern).matches(&model), expected);
        }
    }

    fn lane(pattern: &str, order: i32) -> LaneRule {
        LaneRule { pattern: Pattern::new(pattern), order, each_model: false, ..LaneRule::every_model() }
    }

    #[test]
    fn the_most_specific_lane_of_each_provider_by_order() {
        let first = Provider::bare("first", vec![lane("gpt-*", 1), lane("gpt-4o", 1), lane("*", 1)]);
        let second = Provider::bare("second", vec![lane("gpt-4*", 0)]);
        let third =
            Provider::bare("third", vec![LaneRule { except: vec![Pattern::new("gpt-*")], ..lane("*", 0) }]);
        let providers = [first, second, third];
        let route = |model: &str| {
            let lanes = route(&providers, model);
            lanes.iter().map(|it| format!("{}/{}", it.provider.name, it.lane.pattern)).collect::<Vec<_>>()
        };
        assert_eq!(route("gpt-4o"), ["second/gpt-4*", "first/gpt-4o"]);
        assert_eq!(route("gpt-5"), ["first/gpt-*"]);
        assert_eq!(route("claude"), ["third/*", "first/*"]);
    }
}
