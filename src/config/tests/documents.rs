//! The example and the reference hold every key there is, no other, and the defaults in force.

use std::collections::BTreeSet;

use super::*;

const EXAMPLE: &str = include_str!("../../../sluicegate.example.toml");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// Every key that loading asks for, as the reference writes it.
fn keys() -> BTreeSet<String> {
    let text = "[providers.name]\nlanes = [{}]";
    let read_file = |path: &Path| match path.to_str() {
        Some("./sluicegate.toml") => Ok(text.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let environment = Environment::default();
    let sources = Sources { file: None, environment, overrides: Vec::new(), read_file: &read_file };
    let mut report = Report::default();
    Config::read(sources.merge().table, &sources, &mut report);
    report.asked.iter().map(|key| reference_name(key)).collect()
}

/// The set of limits, timeouts or retries of a provider or lane is one row, not one for each of its keys.
fn reference_name(key: &str) -> String {
    let key = key.replace("providers.name.", "providers.NAME.").replace("lanes[0].", "lanes.");
    let sets = ["limits", "timeouts", "retry"].map(|set| format!(".{set}."));
    match sets.iter().find_map(|set| Some((key.find(set.as_str())?, set))) {
        Some((at, set)) => key[..at + set.len() - 1].to_owned(),
        None => key,
    }
}

/// The defaults in force by key.
pub(super) fn defaults() -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut defaults = BTreeMap::new();
    for line in file("").show().lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ") {
            defaults.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    defaults
}

/// The reference's rows about keys: key and default.
fn rows() -> BTreeMap<String, String> {
    let cells = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.strip_suffix('`')?.to_owned();
        Some((key, cells.next()?.trim_matches('`').to_owned()))
    };
    REFERENCE.lines().filter_map(cells).filter(|(key, _)| key.contains('.')).collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let documented: BTreeSet<_> = rows().into_keys().collect();
    assert_eq!(documented, keys());
}

#[test]
fn the_reference_has_the_defaults() {
    let rows = rows();
    let defaults = defaults();
    assert!(defaults.len() > 25, "{defaults:?}");
    for (key, default) in defaults {
        assert_eq!(rows.get(&key), Some(&default), "{key}");
    }
}

/// The keys and sections of the row of the table about reloading that begins so.
fn reloading(row: &str) -> Vec<String> {
    let line = REFERENCE.lines().find(|line| line.starts_with(&format!("| {row} | "))).unwrap();
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_reference_says_of_every_key_whether_it_reloads() {
    let (at_once, restart) = (reloading("at once"), reloading("with the next start"));
    for key in keys() {
        let holds = |names: &[String]| {
            names.iter().any(|name| {
                key.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let expected = crate::config::changes::is_live(&key);
        assert_eq!((holds(&at_once), holds(&restart)), (expected, !expected), "{key}");
    }
}

/// The example with every setting in force that it has commented out.
fn uncommented() -> String {
    let setting = |line: &str| {
        let is_setting =
            line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
        if is_setting { line[1..].to_owned() } else { line.to_owned() }
    };
    EXAMPLE.lines().map(setting).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_as_it_is_changes_nothing() {
    assert_eq!(file(EXAMPLE), file(""));
}

#[test]
fn the_example_has_only_keys_that_there_are() {
    let text = uncommented();
    let problems = Given { file: &text, ..NOTHING }.problems();
    let broken: Vec<_> = problems
        .iter()
        .map(ToString::to_string)
        .filter(|said| ["not TOML", "is not a key", ": expected "].iter().any(|part| said.contains(part)))
        .filter(|said| !said.contains("this version"))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_example_has_every_key() {
    let text = uncommented();
    let table: toml::Table = text.parse().unwrap();
    let mut found = BTreeSet::new();
    collect("", &toml::Value::Table(table), &mut found);
    for key in keys() {
        assert!(found.contains(&key), "{key} is missing");
    }
}

/// Every path in the example, with the names of the providers made one.
fn collect(path: &str, value: &toml::Value, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if path == "providers" { "NAME" } else { key };
                collect(&reader::join(path, key), value, found);
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| collect(path, item, found)),
        _ => {}
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let table: toml::Table = uncommented().parse().unwrap();
    for (key, default) in defaults() {
        let (section, name) = key.split_once('.').unwrap();
        let expected: toml::Table = format!("it = {default}").parse().unwrap();
        assert_eq!(table[section].get(name), expected.get("it"), "{key}");
    }
}

#[rstest]
#[case::openai("# OpenAI,", &[("OPENAI_API_KEY", "sk-1")], "openai")]
#[case::anthropic("# Anthropic,", &[], "anthropic")]
#[case::llama("# llama.cpp:", &[], "llama")]
#[case::vllm("# vLLM:", &[], "vllm")]
#[case::ollama("# Ollama:", &[], "ollama")]
#[case::two_keys("# Two keys", &[("FIRST_KEY", "sk-1"), ("SECOND_KEY", "sk-2")], "first,second")]
fn each_preset_of_the_example_works(
    #[case] heading: &str,
    #[case] given: &[(&str, &str)],
    #[case] names: &str,
) {
    let text = uncommented();
    let preset: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .collect();
    let config = Given { file: &preset.join("\n"), variables: given, ..NOTHING }.load().unwrap();
    let made: Vec<&str> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(made.join(","), names);
}
