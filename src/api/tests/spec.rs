//! The description and the router say the same.

use std::collections::BTreeSet;

use super::super::routes::table;

/// Methods and paths of `openapi.yaml`, read by its indentation: two spaces for a path, four for a
/// method. A YAML parser would be a dependency for this one test.
fn described() -> BTreeSet<(String, String)> {
    let text = include_str!("../../../openapi.yaml");
    let paths = text.split("\npaths:\n").nth(1).unwrap().split("\ncomponents:\n").next().unwrap();
    let (mut found, mut path) = (BTreeSet::new(), String::new());
    for line in paths.lines() {
        let word = line.trim_start();
        match line.len() - word.len() {
            2 => path = word.trim_end_matches(':').to_owned(),
            4 if word != "parameters:" => {
                found.insert((word.trim_end_matches(':').to_uppercase(), path.clone()));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let routed = table().into_iter().map(|route| (route.method.to_string(), route.path.replace("{*", "{")));
    assert_eq!(routed.collect::<BTreeSet<_>>(), described());
}
