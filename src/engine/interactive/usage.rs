//! The tokens that a reply reports, read off its pieces as they pass.
//!
//! Nothing is kept but the few bytes of one `usage` object. In a stream the last one counts, and
//! Anthropic's later ones, which hold only the output, complete the first. A quote in generated text is
//! escaped, so what looks like the key there is never taken for it.

use memchr::memmem;

use crate::domain::batch::Usage;
use crate::engine::judge::usage::complete;

const KEY: &[u8] = b"\"usage\"";
/// A usage object is a few hundred bytes; what is longer is none.
const LONGEST: usize = 4 * 1024;

/// Where the reading stands.
#[derive(Debug, Default)]
enum Place {
    /// Looking for the key.
    #[default]
    Outside,
    /// Between the key and its value.
    BeforeValue,
    /// In the value.
    Inside,
}

/// Reads usage off a body's pieces.
#[derive(Debug, Default)]
pub(super) struct UsageReader {
    place: Place,
    /// The end of the last piece, where the key may have begun; or the value so far.
    kept: Vec<u8>,
    depth: u32,
    in_text: bool,
    escaped: bool,
    usage: Option<Usage>,
}

impl UsageReader {
    /// The last usage that came, if one did.
    pub(super) const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Takes in a piece.
    pub(super) fn read(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            piece = match self.place {
                Place::Outside => self.look_for_key(piece),
                Place::BeforeValue => self.look_for_value(piece),
                Place::Inside => self.take_value(piece),
            };
        }
    }

    /// Gives back what follows the key.
    fn look_for_key<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        if !self.kept.is_empty() {
            let seam = KEY.len().min(piece.len());
            let before = self.kept.len();
            self.kept.extend_from_slice(&piece[..seam]);
            if let Some(at) = memmem::find(&self.kept, KEY) {
                let end = at + KEY.len() - before;
                return self.found_key(&piece[end..]);
            }
        }
        if let Some(at) = memmem::find(piece, KEY) {
            return self.found_key(&piece[at + KEY.len()..]);
        }
        if piece.len() >= KEY.len() {
            self.kept.clear();
            self.kept.extend_from_slice(&piece[piece.len() - (KEY.len() - 1)..]);
        } else if self.kept.is_empty() {
            self.kept.extend_from_slice(piece);
        } else {
            // The seam took the whole piece in.
            let surplus = self.kept.len().saturating_sub(KEY.len() - 1);
            self.kept.drain(..surplus);
        }
        &[]
    }

    fn found_key<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        self.kept.clear();
        self.place = Place::BeforeValue;
        rest
    }

    fn look_for_value<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let start = piece.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b':'));
        match start {
            None => &[],
            Some(start) if piece[start] == b'{' => {
                (self.place, self.depth, self.in_text, self.escaped) = (Place::Inside, 0, false, false);
                &piece[start..]
            }
            // Null, or no member at all.
            Some(start) => {
                self.place = Place::Outside;
                &piece[start..]
            }
        }
    }

    fn take_value<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        for (at, byte) in piece.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' if !self.in_text => self.depth += 1,
                b'}' if !self.in_text => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                self.kept.extend_from_slice(&piece[..=at]);
                if let Ok(json) = std::str::from_utf8(&self.kept) {
                    self.usage = complete(self.usage, json);
                }
                return self.leave_value(&piece[at + 1..]);
            }
            if self.kept.len() + at > LONGEST {
                return self.leave_value(&piece[at + 1..]);
            }
        }
        self.kept.extend_from_slice(piece);
        &[]
    }

    fn leave_value<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        self.kept.clear();
        self.place = Place::Outside;
        rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Option<[u64; 3]> {
        let mut reader = UsageReader::default();
        pieces.iter().for_each(|piece| reader.read(piece));
        reader.usage().map(|usage| [usage.input_tokens, usage.output_tokens, usage.cached_tokens])
    }

    const BODIES: [(&str, Option<[u64; 3]>); 7] = [
        (r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#, Some([7, 3, 0])),
        (
            "data: {\"usage\":null,\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\"}}]}\n\n\
             data: {\"choices\":[],\"usage\" : {\"prompt_tokens\":7,\"completion_tokens\":9,\
             \"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\ndata: [DONE]\n\n",
            Some([7, 9, 2]),
        ),
        (
            "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1,\
             \"cache_read_input_tokens\":4}}}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":8}}\n\n\
             event: message_delta\ndata: {\"usage\":{\"output_tokens\":12}}\n\n",
            Some([9, 12, 4]),
        ),
        (r#"{"usage":{"a":"}\"","prompt_tokens":1}}"#, Some([1, 0, 0])),
        (r#"{"usage":7,"usage_":{"prompt_tokens":1}}"#, None),
        (r#"{"usage":{"prompt_tokens":1"#, None),
        ("", None),
    ];

    #[test]
    fn usage_is_found_in_bodies_and_streams() {
        for (body, usage) in BODIES {
            assert_eq!(read(&[body.as_bytes()]), usage, "{body}");
            let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes), usage, "{body}");
        }
    }

    #[test]
    fn what_is_too_long_to_be_a_usage_is_passed_over() {
        let long =
            format!(r#"{{"usage":{{"x":"{}"}},"usage":{{"prompt_tokens":2}}}}"#, "y".repeat(3 * LONGEST));
        for size in [7, 1_000, long.len()] {
            let pieces: Vec<&[u8]> = long.as_bytes().chunks(size).collect();
            assert_eq!(read(&pieces), Some([2, 0, 0]));
        }
    }

    proptest! {
        #[test]
        fn where_pieces_end_changes_nothing(which in 0..BODIES.len(), cuts in prop::collection::vec(0..300_usize, 0..6)) {
            let (body, usage) = BODIES[which];
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let (mut pieces, mut rest) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(&body.as_bytes()[rest..cut]);
                rest = cut;
            }
            pieces.push(&body.as_bytes()[rest..]);
            prop_assert_eq!(read(&pieces), usage);
        }
    }
}
