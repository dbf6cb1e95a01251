//! Markers: what a prompt's text asks the scripted upstream to do, such as `[[500 x2]]`.

use std::fmt;

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::span::Span;
use crate::domain::quantity::{display_size, parse_size};

/// A way of answering that is not the usual one; written as the markers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Act {
    /// `500`: that status with the body a provider would send; with `retry-after=2`, the header.
    Status(u16, Option<u32>),
    /// `quota`: 429 `insufficient_quota`.
    Quota,
    /// `too-large`: a 429 that names a request above the limit itself.
    TooLarge,
    /// `hang`: never answers.
    Hang,
    /// `drip=1s`: the head at once, then a byte of the body each.
    Drip(Span),
    /// `stall`: half of the body, then nothing.
    Stall,
    /// `reset`: RST in place of an answer.
    Reset,
    /// `reset-mid`: half of the body, then RST.
    ResetMid,
    /// `close`: closed without an answer.
    Close,
    /// `truncated`: half of the body, then closed.
    Truncated,
    /// `invalid-json`: 200, and half of the JSON as a whole body.
    InvalidJson,
    /// `not-json`: 502 with a page of HTML, as load balancers send.
    NotJson,
    /// `empty`: 200 without a body.
    Empty,
    /// `redirect`: 307 to another path of this server.
    Redirect,
    /// `200-error=502`: 200 with an error object of that code.
    OkError(u16),
    /// `huge=20MB`: 200 with a valid body of that many bytes.
    Huge(u64),
    /// `bomb=100MB`: 200 with gzip that unpacks to that many bytes.
    Bomb(u64),
}

impl Act {
    /// Reads one, without its brackets; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let act = Self::parse_name(words.next()?)?;
        let act = match (act, words.next()) {
            (act, None) => act,
            (Self::Status(status, None), Some(word)) => {
                Self::Status(status, Some(word.strip_prefix("retry-after=")?.parse().ok()?))
            }
            _ => return None,
        };
        words.next().is_none().then_some(act)
    }

    fn parse_name(word: &str) -> Option<Self> {
        if let Ok(status) = word.parse::<u16>() {
            return (400..600).contains(&status).then_some(Self::Status(status, None));
        }
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        Some(match (name, value) {
            ("quota", None) => Self::Quota,
            ("too-large", None) => Self::TooLarge,
            ("hang", None) => Self::Hang,
            ("drip", None) => Self::Drip(Span::from_secs(1)),
            ("drip", Some(each)) => Self::Drip(Span::parse(each)?),
            ("stall", None) => Self::Stall,
            ("reset", None) => Self::Reset,
            ("reset-mid", None) => Self::ResetMid,
            ("close", None) => Self::Close,
            ("truncated", None) => Self::Truncated,
            ("invalid-json", None) => Self::InvalidJson,
            ("not-json", None) => Self::NotJson,
            ("empty", None) => Self::Empty,
            ("redirect", None) => Self::Redirect,
            ("200-error", None) => Self::OkError(502),
            ("200-error", Some(code)) => Self::OkError(code.parse().ok()?),
            ("huge", Some(size)) => Self::Huge(parse_size(size).ok()?),
            ("bomb", Some(size)) => Self::Bomb(parse_size(size).ok()?),
            _ => return None,
        })
    }
}

impl TryFrom<String> for Act {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is no way to answer such as 500, reset or hang"))
    }
}

impl From<Act> for String {
    fn from(act: Act) -> Self {
        act.to_string()
    }
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, None) => write!(formatter, "{status}"),
            Self::Status(status, Some(seconds)) => write!(formatter, "{status} retry-after={seconds}"),
            Self::Quota => formatter.write_str("quota"),
            Self::TooLarge => formatter.write_str("too-large"),
            Self::Hang => formatter.write_str("hang"),
            Self::Drip(each) => write!(formatter, "drip={each}"),
            Self::Stall => formatter.write_str("stall"),
            Self::Reset => formatter.write_str("reset"),
            Self::ResetMid => formatter.write_str("reset-mid"),
            Self::Close => formatter.write_str("close"),
            Self::Truncated => formatter.write_str("truncated"),
            Self::InvalidJson => formatter.write_str("invalid-json"),
            Self::NotJson => formatter.write_str("not-json"),
            Self::Empty => formatter.write_str("empty"),
            Self::Redirect => formatter.write_str("redirect"),
            Self::OkError(code) => write!(formatter, "200-error={code}"),
            Self::Huge(bytes) => write!(formatter, "huge={}", display_size(*bytes)),
            Self::Bomb(bytes) => write!(formatter, "bomb={}", display_size(*bytes)),
        }
    }
}

/// The markers of one prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Markers {
    /// `[[id=…]]`: what the request is called.
    pub(super) id: Option<Box<str>>,
    /// `[[slow=3s]]`: a latency of its own.
    pub(super) slow: Option<Span>,
    /// `[[out=37]]`: the tokens that the answer claims to have.
    pub(super) out: Option<u64>,
    /// What to do, in turn; each for so many calls, or for ever.
    acts: Vec<(Act, Option<u32>)>,
}

impl Markers {
    /// Adds the markers that a text holds. Brackets around anything else are just text.
    pub(super) fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(start) = memmem::find(rest.as_bytes(), b"[[") {
            rest = &rest[start + 2..];
            let Some(end) = memmem::find(rest.as_bytes(), b"]]") else { return };
            self.read_one(&rest[..end]);
        }
    }

    fn read_one(&mut self, marker: &str) {
        if let Some(id) = marker.strip_prefix("id=") {
            self.id = Some(id.into());
        } else if let Some(latency) = marker.strip_prefix("slow=") {
            self.slow = Span::parse(latency).or(self.slow);
        } else if let Some(tokens) = marker.strip_prefix("out=") {
            self.out = tokens.parse().ok().or(self.out);
        } else {
            let (name, times) = match marker.rsplit_once(" x") {
                Some((name, times)) => (name, times.parse().ok()),
                None => (marker, None),
            };
            self.acts.extend(Act::parse(name).map(|act| (act, times)));
        }
    }

    /// Whether any behaviour was asked for, so that calls need counting.
    pub(super) fn has_acts(&self) -> bool {
        !self.acts.is_empty()
    }

    /// What the `attempt`-th call (from 1) meets; `None` is the usual answer.
    pub(super) fn act(&self, attempt: u32) -> Option<&Act> {
        let mut left = attempt;
        for (act, times) in &self.acts {
            match times {
                Some(times) if left > *times => left -= times,
                _ => return Some(act),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Markers {
        let mut markers = Markers::default();
        markers.read(text);
        markers
    }

    #[test]
    fn acts_print_as_they_are_read() {
        let all = "400|429 retry-after=2|quota|too-large|hang|drip=1s|stall|reset|reset-mid|close|truncated|\
                   invalid-json|not-json|empty|redirect|200-error=503|huge=20MB|bomb=5B";
        for text in all.split('|') {
            assert_eq!(Act::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "399", "600", "hang=1", "huge", "huge=big", "429 2", "quota retry-after=1", "500 x"]
        {
            assert_eq!(Act::parse(text), None, "{text}");
        }
    }

    #[test]
    fn acts_are_met_in_turn() {
        let markers = read("please [[500 x2]] and [[429 retry-after=1 x1]][[id=a 7]] [[slow=3s]] [[out=9]]");
        let status = |attempt| markers.act(attempt).map(ToString::to_string);
        assert_eq!(status(1).as_deref(), Some("500"));
        assert_eq!(status(2).as_deref(), Some("500"));
        assert_eq!(status(3).as_deref(), Some("429 retry-after=1"));
        assert_eq!(status(4), None);
        assert_eq!(markers.id.as_deref(), Some("a 7"));
        assert_eq!((markers.slow, markers.out), (Some(Span::from_secs(3)), Some(9)));
        assert_eq!(read("[[hang]]").act(1_000), Some(&Act::Hang));
    }

    #[test]
    fn other_brackets_are_text() {
        for text in ["a[[0]]", "[[", "[[x", "]] [[", "[[unknown]] x[[1,2],[3]]", "[[]]"] {
            assert_eq!(read(text), Markers::default(), "{text}");
        }
    }
}
