//! `config check`, `config show` and `config reference`.

use serde_json::json;

use super::arguments::Global;
use super::error::CliError;
use super::exit::Exit;
use super::{load, load_for_service, print};
use crate::config::{ConfigError, Environment, Reference};

/// Says everything that is wrong, by the checks of `serve`: with 0 there is nothing in the configuration that it would
/// refuse. What is not in it only `serve` finds out: whether its addresses are free, the database is there and good and
/// holds keys where keys are needed, and what the environment says of traces can be done.
pub(super) fn check(global: &Global, environment: Environment) -> Result<Exit, CliError> {
    match load_for_service(global, &[], environment) {
        Err(error) if global.json => {
            print(&in_json(&error))?;
            Ok(Exit::Usage)
        }
        Err(error) => Err(error.into()),
        Ok(config) if global.json => {
            print(&format!("{}\n", json!({ "ok": true, "problems": [], "notices": config.notices })))?;
            Ok(Exit::Success)
        }
        Ok(_) if global.quiet => Ok(Exit::Success),
        Ok(config) => {
            let names: Vec<_> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
            let notices: String = config.notices.iter().map(|notice| format!("note: {notice}\n")).collect();
            print(&format!("{notices}the configuration is good; providers: {}\n", names.join(", ")))?;
            Ok(Exit::Success)
        }
    }
}

/// Shows the configuration in force.
pub(super) fn show(global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let text = load(global, &[], environment)?.show();
    if global.json {
        // What is shown is TOML by construction; were it not, the text itself still says it.
        let value = toml::from_str::<serde_json::Value>(&text).unwrap_or_else(|_| text.into());
        print(&format!("{value:#}\n"))?;
    } else {
        print(&text)?;
    }
    Ok(Exit::Success)
}

/// Explains every key there is, whatever is configured.
pub(super) fn reference(global: &Global) -> Result<Exit, CliError> {
    let reference = Reference::of_all_keys();
    print(&if global.json { format!("{:#}\n", json!(reference)) } else { reference.to_string() })?;
    Ok(Exit::Success)
}

fn in_json(error: &ConfigError) -> String {
    let value = match error {
        ConfigError::Problems(problems) => json!({ "ok": false, "problems": problems }),
        ConfigError::NoProvider => {
            let problem = json!({ "key": "providers", "message": error.to_string() });
            json!({ "ok": false, "problems": [problem] })
        }
    };
    format!("{value}\n")
}
