//! The HTTP client of one provider: how it connects.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity, Proxy, Url};

use super::settings::{HttpVersion, UpstreamError, UpstreamSettings};
use super::shards::SHARD_CALLS;

/// Most bytes that one HTTP/2 stream may send before they are read.
const STREAM_WINDOW: u32 = 64 * 1024;

/// All streams' windows together fill the connection's: with a smaller one, a few readers that are
/// made to wait for memory would stop the one that may read on.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * SHARD_CALLS as u32;

/// Whether calls share connections, so that they have to be spread over several clients: one client
/// has one HTTP/2 connection per server, and what is above its streams queues unseen.
pub(super) fn multiplexes(settings: &UpstreamSettings, base: &Url) -> bool {
    match settings.http {
        HttpVersion::Auto => base.scheme() == "https",
        HttpVersion::One => false,
        HttpVersion::Two => true,
    }
}

/// Sets up a client.
pub(super) fn build(settings: &UpstreamSettings, base: &Url) -> Result<Client, UpstreamError> {
    let builder = Client::builder()
        .retry(reqwest::retry::never())
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        // Below the 60 s after which load balancers commonly drop an idle connection.
        .pool_idle_timeout(Duration::from_secs(50))
        .pool_max_idle_per_host(settings.max_in_flight)
        .tcp_keepalive(Duration::from_secs(30))
        .tcp_nodelay(true)
        .gzip(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(20));
    let builder = match settings.http {
        HttpVersion::One => builder.http1_only(),
        HttpVersion::Two => builder.http2_prior_knowledge(),
        HttpVersion::Auto if base.scheme() == "http" => builder.http1_only(),
        HttpVersion::Auto => builder,
    };
    let builder = trust(proxied(builder, settings, base)?, settings, base)?;
    builder.build().map_err(|error| UpstreamError::Client(super::exchange::innermost(&error)))
}

fn proxied(
    builder: ClientBuilder,
    settings: &UpstreamSettings,
    base: &Url,
) -> Result<ClientBuilder, UpstreamError> {
    match &settings.proxy {
        Some(proxy) => Ok(builder.proxy(Proxy::all(proxy).map_err(|_| UpstreamError::Proxy)?)),
        // A proxy's loopback is not ours.
        None if is_loopback(base) => Ok(builder.no_proxy()),
        None => Ok(builder),
    }
}

fn trust(
    mut builder: ClientBuilder,
    settings: &UpstreamSettings,
    base: &Url,
) -> Result<ClientBuilder, UpstreamError> {
    if base.scheme() == "http" && settings.proxy.is_none() && settings.ca_file.is_none() {
        // Nothing to verify, so a machine without certificates will do, and none are held in memory.
        builder = builder.tls_certs_only([]);
    }
    if let Some(path) = &settings.ca_file {
        let certificates = Certificate::from_pem_bundle(&read("ca_file", path)?)
            .map_err(|error| unusable("ca_file", path, super::exchange::innermost(&error)))?;
        if certificates.is_empty() {
            return Err(unusable("ca_file", path, "holds no certificate in PEM form".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some(path) = &settings.client_cert_file {
        let identity = Identity::from_pem(&read("client_cert_file", path)?)
            .map_err(|error| unusable("client_cert_file", path, super::exchange::innermost(&error)))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, UpstreamError> {
    std::fs::read(path).map_err(|error| unusable(setting, path, error.to_string()))
}

fn unusable(setting: &'static str, path: &Path, reason: String) -> UpstreamError {
    UpstreamError::File { setting, path: path.to_owned(), reason }
}

fn is_loopback(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for (url, loopback) in [
            ("http://127.0.0.1:8000/v1", true),
            ("http://127.9.9.9/v1", true),
            ("http://[::1]:8000/v1", true),
            ("http://[::ffff:127.0.0.1]/v1", true),
            ("http://localhost:11434/v1", true),
            ("http://models.localhost/v1", true),
            ("http://10.0.0.1/v1", false),
            ("https://localhost.example.com/v1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect("a URL")), loopback, "{url}");
        }
    }

    #[test]
    fn files_that_hold_no_certificate_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let mut settings = UpstreamSettings::new("https://models.example/v1");
        settings.ca_file = Some(path.clone());
        let base = Url::parse(&settings.base_url).expect("a URL");
        for content in [None, Some("no certificate")] {
            if let Some(content) = content {
                std::fs::write(&path, content).expect("written");
            }
            let text = build(&settings, &base).expect_err("no client").to_string();
            assert!(text.starts_with("ca_file: ") && text.contains("ca.pem: "), "{text}");
        }
    }
}
