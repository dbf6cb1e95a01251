//! URLs and networks as keys have them.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use super::description::{Notation, ValueKind};
use super::secret::masked;
use super::setting::{Mismatch, Setting, quoted, text_of};
use super::tree::Value;

/// An `http` or `https` URL, without a slash at its end. It prints without its user part.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// The URL whole, its user part included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a URL that is known to be one.
    pub(super) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it carries a user or password.
    pub(super) fn has_user(&self) -> bool {
        masked(&self.0) != self.0
    }

    /// Whether it carries a query, which would end up in the middle of what is appended to it.
    pub(super) fn has_query(&self) -> bool {
        self.0.contains(['?', '#'])
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&masked(&self.0))
    }
}

impl Setting for Url {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "URL",
            examples: &["\"https://api.example.com/v1\""],
            note: "with `http` or `https`",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let expected = || Mismatch::expected("a URL such as \"https://api.example.com/v1\"");
        let text = text_of(value).ok_or_else(expected)?.trim_end_matches('/');
        let uri: Uri = text.parse().map_err(|_| expected())?;
        let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if known_scheme && has_host { Ok(Self(text.to_owned())) } else { Err(expected()) }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in it; an IPv4 address that came over an IPv6 socket counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix);
                mine.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix);
                mine.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl Setting for Network {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "network",
            examples: &["\"10.0.0.0/8\"", "\"fd00::/8\"", "\"::1\""],
            note: "an IP address stands for itself alone",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        let read = |text: &str| {
            let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
            (prefix <= longest).then_some(Self { address, prefix })
        };
        let network = text_of(value).and_then(read);
        network.ok_or_else(|| Mismatch::expected("networks such as \"10.0.0.0/8\" or \"::1\""))
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&format!("{}/{}", self.address, self.prefix)))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.0.0.0/8", "10.1.2.3", true)]
    #[case("10.0.0.0/8", "11.1.2.3", false)]
    #[case("0.0.0.0/0", "11.1.2.3", true)]
    #[case("::/0", "2001:db8::1", true)]
    #[case("2001:db8::/32", "2001:db9::1", false)]
    #[case("127.0.0.1", "::ffff:127.0.0.1", true)]
    #[case("127.0.0.1", "127.0.0.2", false)]
    fn networks_hold_addresses(#[case] network: &str, #[case] address: &str, #[case] holds: bool) {
        let network = Network::read(&Value::Text(network.to_owned())).unwrap();
        assert_eq!(network.contains(address.parse().unwrap()), holds);
    }

    #[rstest]
    #[case("10.0.0.0/33")]
    #[case("10.0.0/8")]
    #[case("somewhere")]
    #[case("::/129")]
    fn not_networks(#[case] text: &str) {
        assert!(Network::read(&Value::Text(text.to_owned())).is_err());
    }

    #[test]
    fn a_url_prints_without_its_password() {
        let url = Url::read(&Value::Text("http://me:hunter2@proxy:3128/".to_owned())).unwrap();
        assert_eq!(format!("{url} {url:?}"), "http://***@proxy:3128 http://***@proxy:3128");
        assert_eq!(url.as_str(), "http://me:hunter2@proxy:3128");
        assert!(url.has_user());
    }

    #[rstest]
    #[case("api.example.com/v1")]
    #[case("ftp://example.com")]
    #[case("http://")]
    #[case("http:///v1")]
    #[case("")]
    fn not_urls(#[case] text: &str) {
        assert!(Url::read(&Value::Text(text.to_owned())).is_err());
    }
}
