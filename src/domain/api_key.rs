//! API keys: the text that only its holder knows, and what is kept of it.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::app::AppName;
use super::day::Day;
use super::ids::{AppKey, KeyId};
use super::time::Timestamp;

/// What every key starts with: searchers of leaked secrets know ours by it.
pub const KEY_PREFIX: &str = "sk-sg-";
const RANDOM: usize = 32;
/// Base-62 digits of a 32-bit checksum.
const CHECKSUM: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key's text. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

impl KeyText {
    /// Made from 32 random bytes: 32 base-62 digits, 190 bits, then their checksum.
    pub fn from_random(mut bytes: [u8; 32]) -> Self {
        let mut text = String::with_capacity(KEY_PREFIX.len() + RANDOM + CHECKSUM);
        text.push_str(KEY_PREFIX);
        for _ in 0..RANDOM {
            // One long division of the 256-bit number by 62; the bias of the last digit is 2^-65.
            let mut rest = 0_u32;
            for byte in &mut bytes {
                let dividend = rest << 8 | u32::from(*byte);
                *byte = (dividend / 62) as u8;
                rest = dividend % 62;
            }
            text.push(char::from(DIGITS[rest as usize]));
        }
        let checksum = checksum(text.as_bytes());
        text.push_str(&checksum);
        Self(text)
    }

    /// A text as a client sends it; `None` unless it has a key's form and its checksum is right, so that a
    /// mistyped or foreign key is refused before anything is looked up.
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.strip_prefix(KEY_PREFIX)?;
        let whole = random.len() == RANDOM + CHECKSUM && random.bytes().all(|byte| DIGITS.contains(&byte));
        let (body, given) = text.split_at_checked(text.len().checked_sub(CHECKSUM)?)?;
        (whole && checksum(body.as_bytes()) == given).then(|| Self(text.to_owned()))
    }

    /// The text itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// CRC-32 (IEEE 802.3) in base 62: whoever finds a key can tell it from noise without asking anyone. It is
/// no secret and protects against nothing but mistakes.
fn checksum(bytes: &[u8]) -> String {
    let mut crc = crc32(bytes);
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(crc % 62) as usize];
        crc /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// SHA-256 of a key's text.
///
/// A plain, fast hash is enough: it can't be turned back by trying, as the text has 190 random bits. Slow
/// hashes are for what people choose, and would cost each call milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// The hash of any text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Compares in a time that does not depend on where they differ.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// What a key lets its holder do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read what its app has.
    Read,
    /// Everything its app can do.
    App,
    /// The same, and administrate the service.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::App, Self::Read, Self::Admin];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::App => "app",
            Self::Admin => "admin",
        }
    }

    /// From what [`Scope::as_str`] gave.
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// A key's row: everything but its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public id.
    pub id: KeyId,
    /// Whose it is.
    pub app: AppKey,
    /// That app's name.
    pub app_name: AppName,
    /// What its maker calls it.
    pub name: Option<String>,
    /// What it lets its holder do.
    pub scope: Scope,
    /// What its text hashes to.
    pub hash: KeyHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The last day on which it was used.
    pub last_used: Option<Day>,
    /// The key that it replaces.
    pub replaces: Option<KeyId>,
}

impl KeyRecord {
    /// Whether it is good at that moment.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| now < expires)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(b""), "000000");
    }

    #[test]
    fn a_key_does_not_print() {
        let key = KeyText::from_random([7; 32]);
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "*** Some(***)");
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(bytes: [u8; 32]) {
            let key = KeyText::from_random(bytes);
            prop_assert_eq!(key.expose().len(), 44);
            prop_assert_eq!(KeyText::parse(key.expose()), Some(key.clone()));
            prop_assert!(key.hash().is_same(&KeyHash::of(key.expose())));
        }

        #[test]
        fn a_changed_character_is_noticed(bytes: [u8; 32], at in 0..44_usize, to in 0..62_usize) {
            let key = KeyText::from_random(bytes);
            let mut changed = key.expose().as_bytes().to_vec();
            prop_assume!(changed[at] != DIGITS[to]);
            changed[at] = DIGITS[to];
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(KeyText::parse(&changed), None);
            prop_assert!(!key.hash().is_same(&KeyHash::of(&changed)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", tail in "\\PC{0,40}") {
            prop_assert_eq!(KeyText::parse(&text), None);
            let _ = KeyText::parse(&format!("{KEY_PREFIX}{tail}"));
        }
    }
}
