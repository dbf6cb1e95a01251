//! Where a request goes: the provider's base, the endpoint's path, a deployment, the client's query.

use reqwest::Url;

use super::settings::{UpstreamError, UpstreamSettings};
use crate::domain::endpoint::Endpoint;

/// The base that a provider's settings name, its query included.
///
/// # Errors
/// It is not the address of an HTTP server.
pub(super) fn base(settings: &UpstreamSettings) -> Result<Url, UpstreamError> {
    let refused = |reason: &str| UpstreamError::BaseUrl(reason.to_owned());
    let mut base =
        Url::parse(&settings.base_url).map_err(|error| UpstreamError::BaseUrl(error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(refused("it has to start with http:// or https://"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(refused("a name and password have no place in it; use headers"));
    }
    base.set_fragment(None);
    if !settings.query.is_empty() {
        base.query_pairs_mut().extend_pairs(&settings.query);
    }
    Ok(base)
}

/// The base's path, one slash, the endpoint's path; the base's query stays.
pub(super) fn of_endpoint(base: &Url, endpoint: Endpoint) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), endpoint.upstream_path()));
    url
}

/// The same where a model is a deployment: `…/deployments/MODEL/chat/completions`. Endpoints that came
/// after that scheme, such as responses, name the model in the body alone.
pub(super) fn of_deployment(endpoint_url: &Url, endpoint: Endpoint, model: &str) -> Url {
    let mut url = endpoint_url.clone();
    let named = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings);
    let path = endpoint_url.path().strip_suffix(endpoint.upstream_path()).filter(|_| named);
    if let Some(base) = path {
        url.set_path(base);
        // A segment is escaped whole, so that no model's name can lead elsewhere.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("deployments").push(model);
            segments.extend(endpoint.upstream_path().split('/').filter(|part| !part.is_empty()));
        }
    }
    url
}

/// The provider's own parameters, then those of the client's query whose names it does not set.
pub(super) fn joined_query(own: Option<&str>, clients: &str) -> Option<String> {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let own = own.unwrap_or_default();
    let taken: Vec<String> = own.split('&').map(name).collect();
    let more = clients.split('&').filter(|pair| !pair.is_empty() && !taken.contains(&name(pair)));
    let pairs: Vec<&str> = Some(own).filter(|own| !own.is_empty()).into_iter().chain(more).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_of(base_url: &str, query: &[(&str, &str)]) -> Result<String, UpstreamError> {
        let mut settings = UpstreamSettings::new(base_url);
        settings.query = query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(of_endpoint(&base(&settings)?, Endpoint::ChatCompletions).to_string())
    }

    #[test]
    fn base_and_endpoint_are_joined_by_one_slash() {
        for (base, query, url) in [
            ("https://a.example/v1", &[][..], "https://a.example/v1/chat/completions"),
            ("https://a.example/v1/", &[], "https://a.example/v1/chat/completions"),
            ("http://a.example:8000", &[], "http://a.example:8000/chat/completions"),
            ("https://a.example/v1?k=1", &[("v", "a b")], "https://a.example/v1/chat/completions?k=1&v=a+b"),
            ("https://a.example/a%20b/v1#x", &[], "https://a.example/a%20b/v1/chat/completions"),
        ] {
            assert_eq!(url_of(base, query).expect("a URL"), url);
        }
        for base in ["a.example/v1", "ftp://a.example", "https://name:s3cret@a.example/v1", ""] {
            let text = url_of(base, &[]).expect_err("refused").to_string();
            assert!(text.starts_with("base_url: ") && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn a_deployment_is_one_escaped_segment_of_the_path() {
        let base = Url::parse("https://r.openai.azure.com/openai?api-version=2024-10-21").expect("a URL");
        for (endpoint, model, url) in [
            (
                Endpoint::ChatCompletions,
                "gpt-4o",
                "https://r.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
            ),
            (
                Endpoint::Embeddings,
                "a/../b?c",
                "https://r.openai.azure.com/openai/deployments/a%2F..%2Fb%3Fc/embeddings?api-version=2024-10-21",
            ),
            (
                Endpoint::Responses,
                "gpt-4o",
                "https://r.openai.azure.com/openai/responses?api-version=2024-10-21",
            ),
        ] {
            let of_endpoint = of_endpoint(&base, endpoint);
            assert_eq!(of_deployment(&of_endpoint, endpoint, model).as_str(), url);
        }
    }

    #[test]
    fn the_provider_s_parameters_win_over_the_client_s() {
        for (own, clients, joined) in [
            (None, "beta=true", Some("beta=true")),
            (Some("k=1"), "", Some("k=1")),
            (Some("api-version=1"), "api-version=2&beta=true&&x", Some("api-version=1&beta=true&x")),
            (None, "", None),
        ] {
            assert_eq!(joined_query(own, clients).as_deref(), joined);
        }
    }
}
