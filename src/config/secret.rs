//! Text that must not be shown.

use std::fmt;

/// A key, a token or a header's value: whatever prints it prints a mask.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

/// What stands for a secret wherever configuration is shown.
pub const MASK: &str = "***";

impl Secret {
    /// Takes the text in; there is no way back but [`Secret::expose`].
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

/// Whether a header or parameter of this name usually carries a secret.
pub(super) fn is_sensitive(name: &str) -> bool {
    const PARTS: [&str; 9] =
        ["auth", "key", "token", "secret", "password", "cookie", "credential", "sig", "session"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

/// The text without what looks like a credential: a URL's user part, or a provider's key.
pub(super) fn masked(text: &str) -> String {
    const KEY_STARTS: [&str; 3] = ["sk-", "Bearer ", "Basic "];
    if KEY_STARTS.iter().any(|start| text.contains(start)) {
        return MASK.to_owned();
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{MASK}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// A URL without its user part and without the values of parameters that may be secrets.
pub(super) fn masked_url(url: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let shown = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_sensitive(name) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { masked(base) } else { format!("{}?{}", masked(base), shown.join("&")) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[rstest]
    #[case("http://me:pw@proxy:3128/", "http://***@proxy:3128/")]
    #[case("http://me@odd@proxy", "http://***@proxy")]
    #[case("http://proxy/a@b", "http://proxy/a@b")]
    #[case("sk-proj-abc", "***")]
    #[case("500/min", "500/min")]
    fn credentials_are_masked(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(masked(text), shown);
    }
}
