//! The reference has every key there is and what is true of it, and the document holds the reference.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::documents::in_force;
use super::*;
use crate::config::description::ValueKind;
use crate::config::limits::{Amount, TimeOfDay};
use crate::config::pairs::Pairs;
use crate::config::setting::Setting;

/// Every key that loading asks for, of a provider `name` with one lane.
fn asked() -> BTreeSet<String> {
    let text = "[providers.name]\nlanes = [{}]";
    let read_file = |path: &Path| match path.to_str() {
        Some("./sluicegate.toml") => Ok(text.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let environment = Environment::default();
    let sources = Sources { file: None, environment, overrides: Vec::new(), read_file: &read_file };
    let mut report = Report::default();
    Config::read(sources.merge().table, &sources, &mut report);
    report.asked.iter().map(|key| key.replace("lanes[0].", "lanes.")).collect()
}

/// The section whose keys the key holds, if it is one of its own.
fn section_of(key: &DocumentedKey) -> Option<&str> {
    key.kind.strip_prefix("the keys of `")?.strip_suffix('`')
}

fn below<'a>(keys: &'a BTreeSet<String>, section: &str) -> Vec<&'a str> {
    let section = format!("{section}.");
    keys.iter().filter_map(|key| key.strip_prefix(section.as_str())).collect()
}

#[test]
fn it_has_every_key_and_no_other() {
    let mut asked = asked();
    let reference = Reference::of_all_keys();
    let mut documented = BTreeSet::new();
    for key in reference.keys() {
        let path = key.key.replace("NAME", "name");
        if let Some(section) = section_of(key) {
            assert_eq!(below(&asked, &path), below(&asked, section), "{path}");
            assert!(!below(&asked, section).is_empty(), "{path}");
            asked.retain(|key| !key.starts_with(&format!("{path}.")));
        } else {
            assert!(documented.insert(path), "{} is there twice", key.key);
        }
    }
    assert_eq!(documented, asked);
}

#[test]
fn its_defaults_are_those_in_force() {
    let given = "store.url = 'postgres://h/d'\nproviders.name = { base_url = 'http://h/v1', lanes = [{ match = 'm' }] }";
    let mut values = in_force(&file(given));
    let defaults = in_force(&file(""));
    assert!(defaults.len() > 25, "{defaults:?}");
    values.extend(defaults.clone());
    let reference = Reference::of_all_keys();
    for key in reference.keys() {
        let path = key.key.replace("NAME", "name");
        if key.default.is_some() {
            assert_eq!(key.default.as_ref(), values.get(&path), "{path}");
        } else {
            assert_eq!(defaults.get(&path), None, "{path}");
        }
    }
    let documented: BTreeSet<_> = reference.keys().map(|key| key.key.as_str()).collect();
    assert!(defaults.keys().all(|key| documented.contains(key.as_str())), "{defaults:?}");
}

/// Reads what the reference gives as examples of a type's values, alone and as a list; its kinds.
fn read_examples<T: Setting>() -> [String; 2] {
    let kind = T::kind();
    let examples: Vec<String> = match (&kind, kind.notation()) {
        (ValueKind::Choice(values), _) => values.clone(),
        (_, notation) => notation.unwrap().examples.iter().map(|example| (*example).to_owned()).collect(),
    };
    for example in &examples {
        assert!(read::<T>(example).is_ok(), "{kind}: {example}");
        assert!(read::<Vec<T>>(example).is_ok(), "{kind}: {example}");
    }
    assert_eq!(
        read::<Vec<T>>(&format!("[{}]", examples.join(", "))).map(|list| list.len()),
        Ok(examples.len())
    );
    [kind.to_string(), Vec::<T>::kind().to_string()]
}

fn read<T: Setting>(example: &str) -> Result<T, String> {
    let table = tree::parse_file("example.toml", &format!("it = {example}")).unwrap();
    T::read(&table["it"].value).map_err(|mismatch| mismatch.expected)
}

#[test]
fn every_example_can_be_read() {
    let kinds: BTreeSet<String> = [
        read_examples::<Amount>(),
        read_examples::<AuthMode>(),
        read_examples::<AuthScheme>(),
        read_examples::<Duration>(),
        read_examples::<HttpVersion>(),
        read_examples::<Kind>(),
        read_examples::<LogFilter>(),
        read_examples::<LogFormat>(),
        read_examples::<Network>(),
        read_examples::<NonZeroU32>(),
        read_examples::<Pairs>(),
        read_examples::<PathBuf>(),
        read_examples::<Pattern>(),
        read_examples::<RetryOn>(),
        read_examples::<Share>(),
        read_examples::<Size>(),
        read_examples::<SocketAddr>(),
        read_examples::<String>(),
        read_examples::<TimeOfDay>(),
        read_examples::<Url>(),
        read_examples::<bool>(),
        read_examples::<i32>(),
    ]
    .into_iter()
    .flatten()
    .collect();
    for key in Reference::of_all_keys().keys() {
        assert!(section_of(key).is_some() || kinds.contains(&key.kind), "{}: {}", key.key, key.kind);
    }
}

#[test]
fn every_key_says_what_it_is_for() {
    for key in Reference::of_all_keys().keys() {
        let DocumentedKey { key, meaning, .. } = key;
        assert!(meaning.starts_with(char::is_uppercase) && meaning.ends_with('.'), "{key}: {meaning}");
    }
}

#[test]
fn the_document_holds_it() {
    // Read when the test runs: to write the document anew, nothing has to be built.
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let document = std::fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let between = document.split_once("<!-- reference").and_then(|(_, rest)| rest.split_once(" -->\n\n"));
    let (held, _) = between.unwrap().1.split_once("\n<!-- end of reference -->\n").unwrap();
    let reference = Reference::of_all_keys().to_string();
    let differs = held.lines().zip(reference.lines()).find(|(held, printed)| held != printed);
    assert!(
        held == reference,
        "docs/configuration.md is not what `sluicegate config reference` prints: write it anew with the command in \
         CONTRIBUTING.md; the first line that differs: {differs:#?}"
    );
}
