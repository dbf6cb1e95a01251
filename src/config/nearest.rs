//! The valid word nearest to a wrong one.

/// Below this the words have nothing to do with each other, and a guess would mislead.
const LEAST: f64 = 0.34;

/// The candidate that looks most like `word`, the first among equals; `None` if none does.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let mut best = None;
    for candidate in candidates {
        let likeness = likeness(&word, &candidate.to_lowercase());
        if best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, candidate));
        }
    }
    best.filter(|(likeness, _)| *likeness >= LEAST).map(|(_, candidate)| candidate)
}

/// The candidate that one letter too many, too few, wrong or swapped makes `word` of.
pub(super) fn slip_of<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().find(|candidate| strsim::damerau_levenshtein(word, candidate) == 1)
}

/// 0 (nothing in common) to 1 (equal). Swapped letters count once, and a word cut short is taken as a hint:
/// `concurrent` means `max_concurrent`, which plain edit distance would not see.
fn likeness(word: &str, candidate: &str) -> f64 {
    let edits = strsim::normalized_damerau_levenshtein(word, candidate);
    let contained = word.len() >= 4 && (candidate.contains(word) || word.contains(candidate));
    if contained { edits.max(0.7) } else { edits }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("listn", Some("listen"))]
    #[case("LISTEN", Some("listen"))]
    #[case("concurrent", Some("max_concurrent"))]
    #[case("lsiten", Some("listen"))]
    #[case("xyzzy", None)]
    fn finds(#[case] word: &str, #[case] expected: Option<&str>) {
        assert_eq!(nearest(word, ["listen", "max_concurrent", "period"]), expected);
    }

    #[test]
    fn nothing_to_choose_from() {
        assert_eq!(nearest("listen", []), None);
    }
}
