//! The configuration, held against everything that a start would refuse without connecting to anything.

use crate::config::{Config, ConfigError, Problem, Sources};
use crate::{logs, store};

use super::providers;

/// Reads the configuration, and refuses what no service can run with. It opens and connects to nothing, so that it may
/// be called beside a service that runs.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(sources: &Sources<'_>) -> Result<Config, ConfigError> {
    let (config, mut problems) = Config::examine(sources);
    let found = log_level(&config).into_iter().chain(store_url(&config)).chain(providers::problems(&config));
    // A value that could not be read was told of, and is not worth a second line.
    let is_told = |problem: &Problem| problems.iter().any(|known| known.key == problem.key);
    let found: Vec<Problem> = found.filter(|problem| !is_told(problem)).collect();
    problems.extend(found);
    if problems.is_empty() {
        config.require_provider()?;
        return Ok(config);
    }
    // Of a file that can't be read nothing is known, and a provider that is told of is one.
    let may_have_one = |problem: &Problem| problem.key.is_empty() || problem.key.starts_with("providers");
    if config.providers.is_empty() && !problems.iter().any(may_have_one) {
        problems.push(config.problem("providers", "names no provider".to_owned()));
    }
    // In the order in which they are found in the sources.
    problems.sort_by(|one, other| one.origin.cmp(&other.origin));
    Err(ConfigError::Problems(problems))
}

fn log_level(config: &Config) -> Option<Problem> {
    let error = logs::check(&config.log.level).err()?;
    Some(config.problem("log.level", format!("can't be used: {error}")))
}

fn store_url(config: &Config) -> Option<Problem> {
    let reason = store::check_location(&config.store.location).err()?;
    Some(config.problem(config.store_key(), format!("can't be used: {reason}")))
}
