//! The example holds every key there is, no other, and the defaults in force.

use std::collections::BTreeSet;

use super::*;

const EXAMPLE: &str = include_str!("../../../sluicegate.example.toml");

/// What a configuration has in force, by key.
pub(super) fn in_force(config: &Config) -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut values = BTreeMap::new();
    for line in config.show().lines() {
        if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.split("  # ").next().unwrap();
            values.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    values
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
    for DocumentedKey { key, .. } in Reference::of_all_keys().keys() {
        assert!(found.contains(key), "{key} is missing");
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
    for (key, default) in in_force(&file("")) {
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
