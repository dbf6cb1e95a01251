//! Names of things: public ids, which clients hold, and keys, which the store joins by.

use std::fmt;

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// What every such id starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Made from 16 random bytes, so that it can't be guessed.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                let mut text = String::with_capacity($prefix.len() + 32);
                text.push_str($prefix);
                for byte in bytes {
                    text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
                    text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
                }
                Self(text)
            }

            /// An id as a client or a row gives it; an unknown one is simply not found.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

public_id!(
    /// A file's public id, `file-…`.
    FileId,
    "file-"
);
public_id!(
    /// A batch's public id, `batch_…`.
    BatchId,
    "batch_"
);
public_id!(
    /// An API key's public id, `key_…`: names the key, opens nothing.
    KeyId,
    "key_"
);

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);
    };
}

key!(
    /// An app's row.
    AppKey
);
key!(
    /// A file's row.
    FileKey
);
key!(
    /// A batch's row.
    BatchKey
);

impl AppKey {
    /// The app of callers without a key; its row is made by the first migration.
    pub const DEFAULT: Self = Self(1);
}
