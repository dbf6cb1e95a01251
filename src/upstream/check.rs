//! Everything that is wrong with a provider's settings, at once.

use super::credential::Credential;
use super::exchange::Upstream;
use super::settings::{UpstreamError, UpstreamSettings};

/// The settings that no client can be built from. It connects to nothing.
pub fn check(settings: &UpstreamSettings) -> Vec<UpstreamError> {
    let (mut settings, mut errors) = (settings.clone(), Vec::new());
    // A client is refused for the first thing that is wrong; without it the next one shows.
    while let Err(error) = Upstream::new(&settings, Credential::none()) {
        let was_left_out = leave_out(&mut settings, &error);
        errors.push(error);
        if !was_left_out {
            break;
        }
    }
    errors
}

/// Takes away what an error blames; whether it is one setting's.
fn leave_out(settings: &mut UpstreamSettings, error: &UpstreamError) -> bool {
    match error {
        UpstreamError::BaseUrl(_) => settings.base_url = "https://localhost".to_owned(),
        UpstreamError::Header(name) => settings.headers.retain(|(other, _)| other != name),
        UpstreamError::Proxy => settings.proxy = None,
        UpstreamError::File { setting: "ca_file", .. } => settings.ca_file = None,
        UpstreamError::File { .. } => settings.client_cert_file = None,
        UpstreamError::Client(_) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_told() {
        let mut settings = UpstreamSettings::new("http://300.0.0.1/v1");
        settings.headers = vec![("a b".to_owned(), "c".to_owned()), ("d".to_owned(), "e\n".to_owned())];
        settings.proxy = Some("http://300.0.0.2".to_owned());
        settings.ca_file = Some("/nonexistent/ca.pem".into());
        settings.client_cert_file = Some("/nonexistent/client.pem".into());
        let errors = check(&settings);
        let told: Vec<_> = errors.iter().filter_map(UpstreamError::setting).collect();
        assert_eq!(told, ["base_url", "headers", "headers", "proxy", "ca_file", "client_cert_file"]);
        assert!(check(&UpstreamSettings::new("http://127.0.0.1:1/v1")).is_empty());
    }
}
