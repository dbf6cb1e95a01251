//! Lengths of time and sizes, as scripts and markers write them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time written as `250ms`, `1.5s`, `2m`, `1h` or `1d`; a bare `0` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// From whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Its microseconds.
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }

    /// Reads a length of time; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::default());
        }
        let (number, unit) = split(text)?;
        let seconds = match unit {
            "us" => number / 1e6,
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3_600.0,
            "d" => number * 86_400.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(seconds).ok().map(Self)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is no length of time such as 250ms or 60s"))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.micros();
        match micros {
            0 => formatter.write_str("0s"),
            _ if micros.is_multiple_of(1_000_000) => write!(formatter, "{}s", micros / 1_000_000),
            _ if micros.is_multiple_of(1_000) => write!(formatter, "{}ms", micros / 1_000),
            _ => write!(formatter, "{micros}us"),
        }
    }
}

/// Reads a size such as `20MB`, `64KiB` or `100`, in bytes; `None` if it is none.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    let (number, unit) = split(text)?;
    let factor = match unit {
        "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return None,
    };
    Some((number * factor) as u64)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let number = text[..unit].parse::<f64>().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number, text[unit..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print() {
        for (text, millis) in [("0", 0), ("250ms", 250), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(Span::parse(text), Some(Span::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1 year", "nans"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
        for span in
            [Span::from_millis(0), Span::from_millis(1), Span::from_secs(60), Span(Duration::from_micros(7))]
        {
            assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
    }

    #[test]
    fn sizes_read() {
        assert_eq!(parse_size("100"), Some(100));
        assert_eq!(parse_size("20MB"), Some(20_000_000));
        assert_eq!(parse_size("1.5KiB"), Some(1_536));
        assert_eq!(parse_size("20 MB"), None);
        assert_eq!(parse_size("lots"), None);
    }
}
