//! How deep JSON nests: a scan, since raw values are skipped without any limit on depth.

/// Deepest nesting of a line, the line's own object counted.
pub(super) const MAX_DEPTH: u32 = 64;

/// Whether valid JSON nests deeper than [`MAX_DEPTH`].
pub(super) fn is_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            // Prompts are most of the bytes: jump from quote to backslash to quote.
            b'"' => at = after_string(json, at),
            _ => {}
        }
    }
    false
}

fn after_string(json: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &json[at.min(json.len())..]) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn depth(value: &Value) -> u32 {
        match value {
            Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn nested() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), "[\\[\\]{}\"\\\\a]{0,6}".prop_map(Value::String)];
        let level = (leaf, 0..90_usize, any::<bool>());
        level.prop_map(|(leaf, levels, arrays)| {
            (0..levels).fold(leaf, |inner, level| {
                if arrays ^ (level % 3 == 0) {
                    Value::Array(vec![inner])
                } else {
                    serde_json::json!({"[\\\"": inner})
                }
            })
        })
    }

    proptest! {
        #[test]
        fn agrees_with_counting_on_the_parsed_value(value in nested()) {
            prop_assert_eq!(is_too_deep(value.to_string().as_bytes()), depth(&value) > MAX_DEPTH);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            is_too_deep(&bytes);
        }
    }
}
