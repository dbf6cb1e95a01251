//! Hides the chunk of usage that was asked for in a client's place: it gets the events that it would have
//! got otherwise, byte for byte.
//!
//! The chunk is the last before `[DONE]`, without choices and with a usage. So one that looks like it is kept
//! back until the next event shows whether it is: where another chunk follows, it was the upstream's own.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// A longer event passes unread: a chunk of usage has a few hundred bytes.
const LONGEST: usize = 64 * 1024;

/// What is known of the line that a piece ended in. Lines end with a line feed, or with a carriage return
/// before it; servers that send the latter alone are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Empty,
    /// A carriage return, and nothing else.
    Return,
    Text,
}

impl Line {
    fn with(self, more: &[u8]) -> Self {
        match (self, more) {
            (line, []) => line,
            (Self::Empty, b"\r") => Self::Return,
            _ => Self::Text,
        }
    }
}

/// What an event is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A comment or an empty line: nothing that a client sees.
    Nothing,
    /// A usage, and no choices.
    Usage,
    /// `[DONE]`
    Done,
    Other,
}

/// A chunk, as far as it matters here.
#[derive(serde::Deserialize)]
struct Chunk<'a> {
    choices: Vec<IgnoredAny>,
    #[serde(borrow)]
    usage: &'a RawValue,
}

/// Takes a stream's pieces and gives back what of them its client sees. At most two events are kept.
#[derive(Debug, Default)]
pub(super) struct UsageHider {
    /// The event so far; nothing while a long one passes.
    event: BytesMut,
    line: Line,
    /// Whether the present event is too long to be read.
    passes: bool,
    /// A chunk that is hidden if nothing but the end follows.
    held: Bytes,
}

impl UsageHider {
    /// Takes in a piece and gives back what of it and of earlier ones is to be seen now.
    pub(super) fn see(&mut self, piece: &[u8]) -> Bytes {
        let (mut seen, mut start, mut at) = (BytesMut::new(), 0, 0);
        while let Some(length) = memchr(b'\n', &piece[at..]) {
            let line = std::mem::take(&mut self.line).with(&piece[at..at + length]);
            at += length + 1;
            if line != Line::Text {
                self.take(&piece[start..at], &mut seen);
                self.end_event(&mut seen);
                start = at;
            }
        }
        self.line = self.line.with(&piece[at..]);
        self.take(&piece[start..], &mut seen);
        seen.freeze()
    }

    /// The stream ended, or broke off: what is left to be seen.
    pub(super) fn end(mut self) -> Bytes {
        let mut seen = BytesMut::new();
        self.end_event(&mut seen);
        seen.freeze()
    }

    /// Takes in a part of the present event.
    fn take(&mut self, part: &[u8], seen: &mut BytesMut) {
        if !self.passes && self.event.len() + part.len() > LONGEST {
            self.passes = true;
            seen.extend_from_slice(&std::mem::take(&mut self.held));
            seen.extend_from_slice(&self.event);
            self.event.clear();
        }
        if self.passes {
            seen.extend_from_slice(part);
        } else {
            self.event.extend_from_slice(part);
        }
    }

    fn end_event(&mut self, seen: &mut BytesMut) {
        if std::mem::take(&mut self.passes) {
            return;
        }
        let event = self.event.split().freeze();
        match kind_of(&event) {
            Event::Nothing => seen.extend_from_slice(&event),
            Event::Usage => seen.extend_from_slice(&std::mem::replace(&mut self.held, event)),
            Event::Done => {
                self.held.clear();
                seen.extend_from_slice(&event);
            }
            Event::Other => {
                seen.extend_from_slice(&std::mem::take(&mut self.held));
                seen.extend_from_slice(&event);
            }
        }
    }
}

fn kind_of(event: &[u8]) -> Event {
    let mut data = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let Some(first) = data.next() else {
        let named = event.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"event:"));
        return if named { Event::Other } else { Event::Nothing };
    };
    if first.trim_ascii() == b"[DONE]" {
        return Event::Done;
    }
    // Every other chunk is told apart without reading it as JSON, or at its choices.
    if data.next().is_some() || memmem::find(first, b"\"usage\"").is_none() {
        return Event::Other;
    }
    match serde_json::from_slice::<Chunk<'_>>(first) {
        Ok(chunk) if chunk.choices.is_empty() && chunk.usage.get().starts_with('{') => Event::Usage,
        _ => Event::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\\n\\n\"}}],\"usage\":null}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7}}\n\n";
    const AZURE: &str = "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    const COMMENT: &str = ": keep-alive\n\n";

    fn seen(pieces: &[&[u8]]) -> String {
        let mut hider = UsageHider::default();
        let mut seen = Vec::new();
        pieces.iter().for_each(|piece| seen.extend_from_slice(&hider.see(piece)));
        seen.extend_from_slice(&hider.end());
        String::from_utf8(seen).unwrap()
    }

    fn streams() -> Vec<(String, String)> {
        let long = format!("data: {}\n\n", "x".repeat(LONGEST));
        let cases = [
            (vec![CHUNK, CHUNK, USAGE, DONE], vec![CHUNK, CHUNK, DONE]),
            (vec![AZURE, CHUNK, USAGE, COMMENT, DONE], vec![AZURE, CHUNK, COMMENT, DONE]),
            // Without the last line.
            (vec![CHUNK, USAGE], vec![CHUNK]),
            // Two at the end: the first is the upstream's own.
            (vec![CHUNK, USAGE, USAGE, DONE], vec![CHUNK, USAGE, DONE]),
            (vec![USAGE, CHUNK, DONE], vec![USAGE, CHUNK, DONE]),
            (vec![CHUNK, DONE], vec![CHUNK, DONE]),
            // Broken off in the middle, and before the end of the chunk itself.
            (vec![CHUNK, "data: {\"choi"], vec![CHUNK, "data: {\"choi"]),
            (vec![CHUNK, USAGE.trim_end()], vec![CHUNK]),
            (vec![CHUNK, USAGE, DONE.trim_end()], vec![CHUNK, DONE.trim_end()]),
            (vec![USAGE, &long, USAGE, DONE], vec![USAGE, &long, DONE]),
            (vec!["{\"usage\":{},\"choices\":[]}"], vec!["{\"usage\":{},\"choices\":[]}"]),
            (vec!["event: error\n\n", "\n", "\n", "data:\n\n"], vec!["event: error\n\n\n\ndata:\n\n"]),
            (vec![], vec![]),
        ];
        let joined = cases.map(|(sent, wanted)| (sent.concat(), wanted.concat()));
        // Once more with the other end of lines.
        let returns =
            joined.clone().map(|(sent, wanted)| (sent.replace('\n', "\r\n"), wanted.replace('\n', "\r\n")));
        joined.into_iter().chain(returns).collect()
    }

    #[test]
    fn the_last_chunk_of_usage_is_hidden_and_nothing_else() {
        for (sent, wanted) in streams() {
            assert_eq!(seen(&[sent.as_bytes()]), wanted);
            let bytes: Vec<&[u8]> = sent.as_bytes().chunks(1).collect();
            assert_eq!(seen(&bytes), wanted);
        }
    }

    #[test]
    fn an_event_is_seen_as_soon_as_it_is_whole() {
        let mut hider = UsageHider::default();
        assert_eq!(hider.see(&CHUNK.as_bytes()[..20]), "");
        assert_eq!(hider.see(&CHUNK.as_bytes()[20..]), CHUNK);
        assert_eq!(hider.see(USAGE.as_bytes()), "");
        assert_eq!(hider.see(DONE.as_bytes()), DONE);
    }

    #[test]
    fn little_is_kept_however_long_an_event_is() {
        let mut hider = UsageHider::default();
        let (piece, mut seen) = ([b'x'; 10_000], 0);
        for sent in 1..100 {
            seen += hider.see(&piece).len();
            assert!(hider.event.len() <= LONGEST);
            assert!(sent * piece.len() - seen <= LONGEST);
        }
    }

    proptest! {
        #[test]
        fn where_pieces_end_changes_nothing(
            which in 0..26_usize,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let (sent, wanted) = &streams()[which];
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(sent.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut pieces, mut rest) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(&sent.as_bytes()[rest..cut]);
                rest = cut;
            }
            pieces.push(&sent.as_bytes()[rest..]);
            prop_assert_eq!(&seen(&pieces), wanted);
        }

        #[test]
        fn what_holds_no_usage_is_not_touched(text in "[ -~\r\n]{0,200}", size in 1..9_usize) {
            prop_assume!(!text.contains("usage"));
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(seen(&pieces), text);
        }
    }
}
