//! Types that a key can have: how a value is read, what is said if it can't be, how it is shown.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::description::{Notation, ValueKind};
use super::nearest::nearest;
use super::tree::{Node, Value};
use crate::domain::quantity::{self, QuantityError};

/// What would have been right.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) expected: String,
    pub(super) nearest: Option<String>,
}

impl Mismatch {
    pub(super) fn expected(expected: impl Into<String>) -> Self {
        Self { expected: expected.into(), nearest: None }
    }
}

impl From<QuantityError> for Mismatch {
    fn from(error: QuantityError) -> Self {
        Self::expected(error.to_string())
    }
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// How it is given.
    fn kind() -> ValueKind;

    /// Reads a value as given.
    fn read(value: &Value) -> Result<Self, Mismatch>;

    /// The value as the file would hold it, masked if secret; `None`: not set.
    fn shown(&self) -> Option<String>;
}

/// A text as the file holds it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A text from the file or, with the spaces around it cut off, from a variable.
pub(super) fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Raw(text) => Some(text.trim()),
        _ => None,
    }
}

/// A whole number from the file or a variable.
fn number_of(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Raw(text) => text.trim().parse().ok(),
        _ => None,
    }
}

impl<T: Setting> Setting for Option<T> {
    fn kind() -> ValueKind {
        T::kind()
    }

    /// An empty variable unsets what a weaker source has set: templates often can't leave one out.
    fn read(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Raw(text) if text.trim().is_empty() => Ok(None),
            value => T::read(value).map(Some),
        }
    }

    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(T::shown)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn kind() -> ValueKind {
        ValueKind::List(Box::new(T::kind()))
    }

    /// A list, a single value, or a variable with commas.
    fn read(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::List(items) => items.iter().map(|Node { value, .. }| T::read(value)).collect(),
            Value::Raw(text) if text.trim().is_empty() => Ok(Self::new()),
            Value::Raw(text) => {
                text.split(',').map(|item| T::read(&Value::Raw(item.trim().to_owned()))).collect()
            }
            single => Ok(vec![T::read(single)?]),
        }
    }

    fn shown(&self) -> Option<String> {
        match self.as_slice() {
            [] => None,
            [single] => single.shown(),
            several => {
                Some(format!("[{}]", several.iter().filter_map(T::shown).collect::<Vec<_>>().join(", ")))
            }
        }
    }
}

impl Setting for bool {
    fn kind() -> ValueKind {
        ValueKind::Choice([true, false].iter().filter_map(Self::shown).collect())
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Bool(truth) => Ok(*truth),
            Value::Raw(text) => text.trim().parse().map_err(|_| Mismatch::expected("true or false")),
            _ => Err(Mismatch::expected("true or false")),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for NonZeroU32 {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "count",
            examples: &["1", "64"],
            note: "a whole number of at least 1",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let number = number_of(value).and_then(|number| u32::try_from(number).ok());
        number.and_then(Self::new).ok_or_else(|| Mismatch::expected("a whole number of at least 1"))
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for i32 {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "number",
            examples: &["0", "-1", "10"],
            note: "a whole number, which may be negative",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let number = number_of(value).and_then(|number| Self::try_from(number).ok());
        number.ok_or_else(|| Mismatch::expected("a whole number"))
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A part of a whole, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Setting for Share {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation { name: "share", examples: &["0.5"], note: "a number from 0 to 1" })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let number = match value {
            Value::Float(number) => Some(*number),
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            Value::Raw(text) => text.trim().parse().ok(),
            _ => None,
        };
        let share = number.filter(|number| (0.0..=1.0).contains(number)).map(Self);
        share.ok_or_else(|| Mismatch::expected("a number from 0 to 1"))
    }

    fn shown(&self) -> Option<String> {
        Some(format!("{:?}", self.0))
    }
}

impl Setting for String {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation { name: "text", examples: &["\"example\""], note: "not empty" })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match text_of(value) {
            Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
            _ => Err(Mismatch::expected("a text that is not empty")),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "path",
            examples: &["\"/run/secrets/key\""],
            note: "a relative one is relative to the folder in which the service was started",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match text_of(value) {
            Some(text) if !text.trim().is_empty() => Ok(Self::from(text)),
            _ => Err(Mismatch::expected("a path")),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl Setting for SocketAddr {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "address",
            examples: &["\"127.0.0.1:8080\"", "\"[::]:8080\"", "\"localhost:8080\""],
            note: "an IP address, or `localhost`, and a port",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let address = text_of(value).and_then(|text| {
            let port_only = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            port_only.as_deref().unwrap_or(text).parse().ok()
        });
        address.ok_or_else(|| Mismatch::expected("an address and a port, such as \"127.0.0.1:8080\""))
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Setting for Duration {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "duration",
            examples: &["\"90s\"", "\"1h30m\"", "\"7d\""],
            note: "whole numbers with the units `ms s m h d`, the longest first",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match (text_of(value), value) {
            (Some(text), _) => Ok(quantity::parse_duration(text)?),
            (None, Value::Integer(_)) => Err(QuantityError::DurationWithoutUnit.into()),
            _ => Err(QuantityError::Duration.into()),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&quantity::display_duration(*self)))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Setting for Size {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "size",
            examples: &["\"8MiB\"", "\"200MB\"", "1048576"],
            note: "a number alone is bytes",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match (text_of(value), value) {
            (Some(text), _) => Ok(Self(quantity::parse_size(text)?)),
            (None, Value::Integer(bytes)) => {
                u64::try_from(*bytes).map(Self).map_err(|_| QuantityError::Size.into())
            }
            _ => Err(QuantityError::Size.into()),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&quantity::display_size(self.0)))
    }
}

/// The word among those that a choice allows.
pub(super) fn choose<T: Copy>(value: &Value, choices: &[(&'static str, T)]) -> Result<T, Mismatch> {
    let number;
    let word = match value {
        Value::Integer(given) => {
            number = given.to_string();
            &number
        }
        value => text_of(value).unwrap_or_default(),
    };
    let words = || choices.iter().map(|(name, _)| *name);
    match choices.iter().find(|(name, _)| *name == word) {
        Some((_, choice)) => Ok(*choice),
        None => Err(Mismatch {
            expected: words().collect::<Vec<_>>().join(" or "),
            nearest: nearest(word, words()).map(quoted),
        }),
    }
}

/// An enum whose values are words.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// The word that the configuration has for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn kind() -> $crate::config::description::ValueKind {
                let words = [$($text),+].map($crate::config::setting::quoted);
                $crate::config::description::ValueKind::Choice(words.into())
            }

            fn read(value: &$crate::config::tree::Value) -> Result<Self, $crate::config::setting::Mismatch> {
                $crate::config::setting::choose(value, &[$(($text, Self::$variant)),+])
            }

            fn shown(&self) -> Option<String> {
                Some($crate::config::setting::quoted(self.as_str()))
            }
        }
    };
}
pub(super) use choice;
