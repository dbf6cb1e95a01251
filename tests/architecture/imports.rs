//! Which module may import which: the arrows of the architecture.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ImplItem, Item, ItemMod, ItemUse, Macro, UseTree};

use crate::source::{SourceFile, is_test_code};

/// Modules of no layer that every layer above the domain may use.
const HELPERS: &[&str] = &["clock", "complaint", "config", "metrics", "shutdown", "traces", "wakeup"];

/// Every module and what it may import beside itself, the domain and (above the domain) the helpers.
const UNITS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &[]),
    ("complaint", &[]),
    ("logs", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("shutdown", &[]),
    ("traces", &[]),
    ("wakeup", &[]),
    ("gate", &[]),
    ("ingest", &[]),
    ("store", &[]),
    ("upstream", &[]),
    ("api", &["gate", "ingest", "store", "upstream"]),
    ("engine", &["gate", "ingest", "store", "upstream"]),
    ("app", &["api", "engine", "gate", "ingest", "logs", "store", "upstream"]),
    // Its oracle judges the gate, so it shares no code with it.
    ("demo::upstream", &[]),
    ("demo", &["app", "demo::upstream"]),
    ("cli", &["app", "demo", "demo::upstream", "logs", "store"]),
    ("main", &["cli"]),
];

/// What the domain may use of the outside: nothing that waits, and nothing that reads a file or a socket.
const DOMAIN_CRATES: &[&str] = &[
    "bytes",
    "http",
    "mime",
    "percent_encoding",
    "rand",
    "serde",
    "serde_json",
    "sha2",
    "siphasher",
    "strsim",
    "subtle",
    "thiserror",
    "zstd",
];

/// Parts of `std` that are I/O or hidden inputs.
const IMPURE_STD: &[&str] = &["env", "fs", "net", "os", "process", "thread"];

/// Libraries that stay behind one module, so that replacing them stays one module's work.
const OWNED_CRATES: &[(&str, &str)] = &[
    ("deadpool_postgres", "store"),
    ("governor", "gate"),
    ("opentelemetry", "traces"),
    ("opentelemetry_otlp", "traces"),
    ("opentelemetry_sdk", "traces"),
    ("prometheus", "metrics"),
    ("rusqlite", "store"),
    ("tokio_postgres", "store"),
    ("tracing_opentelemetry", "traces"),
];

/// Every import that breaks a rule, as `file: what (why)`.
pub(crate) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| !file.test_only && !file.module.is_empty()) {
        let mut reader = Reader { module: file.module.clone(), paths: BTreeSet::new() };
        reader.visit_file(&file.syntax);
        let Some(here) = unit_of(&file.module) else {
            found.insert(format!("{}: module `{}` has no place in the table", file.path, file.module[0]));
            continue;
        };
        for path in &reader.paths {
            if let Some(why) = judge(here, path) {
                found.insert(format!("{}: `{}` ({why})", file.path, path.join("::")));
            }
        }
    }
    found.into_iter().collect()
}

fn unit_of(module: &[String]) -> Option<&'static str> {
    let name = module.join("::");
    let holds =
        |unit: &str| name == unit || name.strip_prefix(unit).is_some_and(|rest| rest.starts_with("::"));
    UNITS.iter().map(|(unit, _)| *unit).filter(|unit| holds(unit)).max_by_key(|unit| unit.len())
}

fn judge(here: &str, path: &[String]) -> Option<String> {
    match path.first().map(String::as_str) {
        Some("crate") => judge_inner(here, &path[1..]),
        Some(outer) => judge_outer(here, outer, path.get(1).map(String::as_str)),
        None => None,
    }
}

fn judge_inner(here: &str, path: &[String]) -> Option<String> {
    if path.is_empty() {
        return None;
    }
    let Some(there) = unit_of(path) else {
        return Some("not a module in the table".to_owned());
    };
    let allowed = UNITS.iter().find(|(unit, _)| *unit == here).map_or(&[][..], |(_, allowed)| *allowed);
    let free =
        there == here || there == "domain" && here != "main" || here != "domain" && HELPERS.contains(&there);
    (!free && !allowed.contains(&there)).then(|| format!("{here} may not import {there}"))
}

fn judge_outer(here: &str, outer: &str, part: Option<&str>) -> Option<String> {
    if let Some((_, owner)) = OWNED_CRATES.iter().find(|(name, _)| *name == outer) {
        return (here != *owner).then(|| format!("{outer} belongs to {owner}"));
    }
    if here != "domain" {
        return None;
    }
    let pure = match outer {
        "std" | "core" | "alloc" => part.is_none_or(|part| !IMPURE_STD.contains(&part)),
        _ => !is_dependency(outer) || DOMAIN_CRATES.contains(&outer),
    };
    (!pure).then(|| "the domain is pure".to_owned())
}

fn is_dependency(name: &str) -> bool {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let manifest = std::fs::read_to_string(crate::root().join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&manifest).unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        dependencies.keys().map(|key| key.replace('-', "_")).collect()
    });
    NAMES.contains(name)
}

/// Collects every path that production code names, made absolute.
struct Reader {
    module: Vec<String>,
    paths: BTreeSet<Vec<String>>,
}

impl Reader {
    fn add(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        let mut absolute = match first.as_str() {
            "crate" | "sluicegate" => vec!["crate".to_owned()],
            "self" | "super" => [&["crate".to_owned()][..], &self.module].concat(),
            _ => Vec::new(),
        };
        let mut rest = path;
        if !absolute.is_empty() {
            while let [head, tail @ ..] = rest
                && matches!(head.as_str(), "crate" | "sluicegate" | "self" | "super")
            {
                if head == "super" {
                    absolute.pop();
                }
                rest = tail;
            }
        }
        absolute.extend_from_slice(rest);
        self.paths.insert(absolute);
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(path.ident.to_string())),
            UseTree::Name(name) => self.add(&with(name.ident.to_string())),
            UseTree::Rename(name) => self.add(&with(name.ident.to_string())),
            UseTree::Glob(_) => self.add(&with("*".to_owned())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }

    /// Paths among a macro's tokens, which the parser leaves alone.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add_if_path(&path);
                        path.clear();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.add_tokens(group.stream());
                    self.add_if_path(&std::mem::take(&mut path));
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.add_if_path(&std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.add_if_path(&path);
    }

    fn add_if_path(&mut self, path: &[String]) {
        if path.len() > 1 {
            self.add(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test_code(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(function) if is_test_code(&function.attrs) => {}
            _ => visit::visit_impl_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add_if_path(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        violations(&SourceFile::parse_all([(path.to_owned(), text.to_owned())]))
    }

    #[test]
    fn layers_may_look_down() {
        assert_eq!(found("src/engine/loop.rs", "use crate::{gate::Gate, store};"), [""; 0]);
        assert_eq!(
            found("src/gate/level.rs", "use super::budget::Budget; use crate::clock::Clock;"),
            [""; 0]
        );
        assert_eq!(found("src/main.rs", "fn main() { sluicegate::cli::run() }"), [""; 0]);
        assert_eq!(found("src/domain/ids.rs", "use std::fmt; use serde::Serialize;"), [""; 0]);
    }

    #[test]
    fn siblings_and_upward_imports_are_found_in_every_form() {
        let cases = [
            ("src/gate/level.rs", "use crate::store::Store;"),
            ("src/gate/level.rs", "use crate::{domain::ids, store::{self, Page}};"),
            ("src/gate/level.rs", "fn f() { crate::store::open(); }"),
            ("src/gate/level.rs", "fn f() -> crate::store::Page { loop {} }"),
            ("src/gate/level.rs", "fn f() { assert!(crate::store::is_open()); }"),
            ("src/gate/level.rs", "use super::super::store::Store;"),
            ("src/gate/mod.rs", "mod inner { use super::super::store; }"),
            ("src/gate/mod.rs", "use super::*;"),
            ("src/api/batches.rs", "use crate::engine::Scheduler;"),
            ("src/engine/mod.rs", "pub use crate::api::router;"),
            ("src/store/mod.rs", "use crate::app;"),
            ("src/clock.rs", "use crate::gate::Gate;"),
            ("src/demo/upstream/oracle.rs", "use crate::gate::pacing;"),
            ("src/app/mod.rs", "use crate::cli::Arguments;"),
            ("src/main.rs", "use sluicegate::app;"),
        ];
        for (path, text) in cases {
            assert!(!found(path, text).is_empty(), "{path}: {text}");
        }
    }

    #[test]
    fn the_domain_stays_pure() {
        let cases = [
            "use tokio::time::Instant;",
            "use std::{fs, time::Duration};",
            "fn f() { std::thread::yield_now() }",
            "use crate::clock::Clock;",
        ];
        for text in cases {
            assert_eq!(found("src/domain/time.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn libraries_stay_with_their_owner() {
        assert_eq!(found("src/api/mod.rs", "use rusqlite::Connection;").len(), 1);
        assert_eq!(found("src/store/mod.rs", "use rusqlite::Connection;"), [""; 0]);
    }

    #[test]
    fn a_module_without_a_place_is_found() {
        assert_eq!(found("src/manager/mod.rs", "").len(), 1);
    }

    #[test]
    fn tests_may_import_what_they_need() {
        assert_eq!(
            found("src/gate/level.rs", "#[cfg(test)] mod tests { use crate::store::Store; }"),
            [""; 0]
        );
    }
}
