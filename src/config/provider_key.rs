//! Choosing a provider's key among what the sources give, and the header that carries it.

use super::key::KeySource;
use super::problem::Origin;
use super::provider_settings::ProviderKeys;
use super::providers::{AuthScheme, Kind};
use super::reader::Report;
use super::secret::{MASK, Secret};
use super::sources::Environment;
use super::wellknown::Preset;

/// The header that carries the key.
pub(super) fn resolve_auth(
    keys: &ProviderKeys,
    kind: Kind,
    has_key: bool,
    path: &str,
    report: &mut Report,
) -> AuthScheme {
    match keys.auth {
        Some(AuthScheme::None) | None if !has_key => AuthScheme::None,
        None => kind.default_auth(),
        Some(auth) => {
            if !has_key
                && !["env", "file", "command"]
                    .iter()
                    .any(|it| report.is_reported(&format!("{path}.api_key_{it}")))
            {
                let message =
                    "needs a key: one of api_key_env, api_key_file and api_key_command, or auth = \"none\"";
                report.problem(&format!("{path}.auth"), Some(format!("{:?}", auth.as_str())), message);
            }
            auth
        }
    }
}

/// The key's source: of several given, the one that the strongest source gave.
pub(super) fn key_source(
    keys: &ProviderKeys,
    path: &str,
    preset: Option<&Preset>,
    environment: &Environment,
    report: &mut Report,
) -> Option<KeySource> {
    let given = [
        ("api_key_env", keys.api_key_env.is_some()),
        ("api_key_file", keys.api_key_file.is_some()),
        ("api_key_command", keys.api_key_command.is_some()),
    ];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    let paths = given.map(|(key, _)| (format!("{path}.{key}"), key)).collect::<Vec<_>>();
    let strength = |path: &str| report.origins.get(path).map(strength);
    let strongest = paths.iter().map(|(path, _)| strength(path)).max().flatten();
    let chosen: Vec<_> = paths.iter().filter(|(path, _)| strength(path) == strongest).cloned().collect();
    if let [(_, first), (second, _), ..] = chosen.as_slice() {
        report.problem(second, None, format!("is given beside {first}: a provider has one key"));
    }
    match chosen.first().map(|(_, key)| *key) {
        Some("api_key_env") => {
            from_variable(&format!("{path}.api_key_env"), keys.api_key_env.as_deref()?, environment, report)
        }
        Some("api_key_file") => keys.api_key_file.clone().map(KeySource::File),
        Some(_) => keys.api_key_command.clone().map(|command| KeySource::Command(Secret::new(command))),
        // A URL of one's own must not be sent OpenAI's key just because of the table's name.
        None if keys.base_url.is_some() || keys.auth == Some(AuthScheme::None) => None,
        None => {
            let name = preset?.key_variable?;
            let key = Secret::new(environment.get(name)?);
            Some(KeySource::Variable { name: name.to_owned(), key })
        }
    }
}

/// File, then a well-known variable, then our own, then a flag.
fn strength(origin: &Origin) -> u8 {
    match origin {
        Origin::File { .. } => 0,
        Origin::Variable { name } if !name.starts_with("SLUICEGATE__") => 1,
        Origin::Variable { .. } => 2,
        Origin::Flag { .. } => 3,
    }
}

fn from_variable(
    path: &str,
    name: &str,
    environment: &Environment,
    report: &mut Report,
) -> Option<KeySource> {
    // Whoever puts the key itself here must not find it in the message: only usual names are quoted.
    let is_usual = name.len() <= 64
        && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
        && !name.starts_with(|first: char| first.is_ascii_digit());
    let shown = if is_usual { format!("{name:?}") } else { MASK.to_owned() };
    match environment.get(name) {
        Some(key) => Some(KeySource::Variable { name: name.to_owned(), key: Secret::new(key) }),
        None if is_usual => {
            report.problem(path, Some(shown), "this variable is not set");
            None
        }
        None => {
            let message = "expected the name of a variable that is set, such as \"OPENAI_API_KEY\", never the key itself";
            report.problem(path, Some(shown), message);
            None
        }
    }
}
