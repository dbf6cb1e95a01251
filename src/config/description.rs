//! What can be said of a key without its value.

use std::fmt;

/// A key as its definition describes it.
#[derive(Clone, Debug)]
pub(super) struct KeyDescription {
    /// The key, without its section.
    pub(super) name: &'static str,
    /// What can be given for it.
    pub(super) kind: ValueKind,
    /// What holds if nothing is given, as the file would hold it; `None`: nothing.
    pub(super) default: Option<String>,
    /// What it is for, in Markdown.
    pub(super) meaning: &'static str,
}

/// What can be given for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// One of these values, as the file would hold them.
    Choice(Vec<String>),
    /// What is written in a way of its own.
    Written(Notation),
    /// A list of them.
    List(Box<Self>),
    /// The keys that this section of the service has.
    Section(&'static str),
}

/// A way to write a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notation {
    /// What it is called; with an `s` if there are several.
    pub(super) name: &'static str,
    /// Values as the file would hold them.
    pub(super) examples: &'static [&'static str],
    /// What the examples don't tell, in Markdown.
    pub(super) note: &'static str,
}

impl ValueKind {
    /// The notation that it is written in, alone or in a list.
    pub(super) fn notation(&self) -> Option<Notation> {
        match self {
            Self::Written(notation) => Some(*notation),
            Self::List(items) => items.notation(),
            Self::Choice(_) | Self::Section(_) => None,
        }
    }
}

/// In Markdown, as it stands beside a key.
impl fmt::Display for ValueKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                formatter.write_str(&words.join(", "))
            }
            Self::Written(notation) => formatter.write_str(notation.name),
            Self::List(items) => write!(formatter, "list of {items}s"),
            Self::Section(name) => write!(formatter, "the keys of `{name}`"),
        }
    }
}
