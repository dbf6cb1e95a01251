//! The admin keys that the operator holds: in the environment, in a file, or both.

use super::key::KeySource;
use super::reader::Report;
use super::secret::Secret;
use super::sections::Auth;
use super::sources::Environment;

/// The variable with an admin key.
const VARIABLE: &str = "SLUICEGATE_ADMIN_KEY";

/// Shortest admin key, in bytes: people make up their own, and what is shorter could be guessed.
pub const SHORTEST_ADMIN_KEY: usize = 24;

/// Where admin keys come from. A file may be missing still; a variable that is too short never gets longer.
pub(super) fn admin_keys(environment: &Environment, auth: &Auth, report: &mut Report) -> Vec<KeySource> {
    let variable = environment.get(VARIABLE).map(str::trim);
    if variable
        .is_some_and(|key| key.len() < SHORTEST_ADMIN_KEY || !key.bytes().all(|b| b.is_ascii_graphic()))
    {
        let message = format!(
            "must have at least {SHORTEST_ADMIN_KEY} visible ASCII characters, such as `openssl rand -hex 32` gives"
        );
        report.problem(VARIABLE, None, message);
    }
    let variable =
        variable.map(|key| KeySource::Variable { name: VARIABLE.to_owned(), key: Secret::new(key) });
    let file = auth.admin_key_file.clone().map(KeySource::File);
    variable.into_iter().chain(file).collect()
}
