//! Reading typed sections out of the tree, collecting everything that is wrong on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::nearest::{nearest, slip_of};
use super::problem::{Origin, Problem};
use super::setting::Setting;
use super::tree::{Node, Table, Value};

/// What reading found out beside the values.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    /// Where each value came from; what is absent is a default.
    pub(super) origins: BTreeMap<String, Origin>,
    /// Every key that was asked for, given or not: all there are.
    pub(super) asked: BTreeSet<String>,
    unknown: Vec<Unknown>,
}

#[derive(Debug)]
struct Unknown {
    section: String,
    key: String,
    origin: Origin,
    siblings: Vec<&'static str>,
}

impl Report {
    /// Something wrong with a key that was read.
    pub(super) fn problem(&mut self, key: &str, value: Option<String>, message: impl Into<String>) {
        let (origin, message) = (self.origins.get(key).cloned(), message.into());
        self.problems.push(Problem { key: key.to_owned(), value, origin, message, nearest: None });
    }

    /// Something wrong with what stands somewhere else than under a key that was read.
    pub(super) fn problem_at(&mut self, key: &str, origin: &Origin, message: &str, nearest: Option<String>) {
        let (key, message) = (key.to_owned(), message.to_owned());
        self.problems.push(Problem { key, value: None, origin: Some(origin.clone()), message, nearest });
    }

    /// Whether there is a problem with this key already, so that another would only repeat it.
    pub(super) fn is_reported(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// Turns unknown keys into problems; only now are all keys known that might have been meant.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        for unknown in std::mem::take(&mut self.unknown) {
            let Unknown { section, key, origin, siblings } = unknown;
            // The same name in another section is a surer guess than a similar one in this, unless one slip tells
            // them apart: `limits.request` is no `timeouts.request`.
            let slip = slip_of(&key, siblings.iter().copied()).map(|sibling| join(&section, sibling));
            let elsewhere = || self.asked.iter().find(|path| path.rsplit('.').next() == Some(&key)).cloned();
            let sibling = || nearest(&key, siblings.iter().copied()).map(|sibling| join(&section, sibling));
            let full = join(&section, &key);
            let anywhere = || nearest(&full, self.asked.iter().map(String::as_str)).map(str::to_owned);
            self.problems.push(Problem {
                nearest: slip.or_else(elsewhere).or_else(sibling).or_else(anywhere),
                key: full,
                // The key is what is wrong; its value may be a secret in a place that no one expects.
                value: None,
                origin: Some(origin),
                message: format!("is not a key; {} has {}", place(&section), siblings.join(", ")),
            });
        }
        // In the order in which they are found in the sources, whatever the order of reading.
        self.problems.sort_by(|one, other| one.origin.cmp(&other.origin));
        self.problems
    }
}

fn place(section: &str) -> String {
    if section.is_empty() { "the top".to_owned() } else { section.to_owned() }
}

pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// One table, being read. Keys that no one took are unknown ones.
pub(super) struct Reader<'a> {
    table: Table,
    path: String,
    asked: Vec<&'static str>,
    report: &'a mut Report,
}

impl<'a> Reader<'a> {
    pub(super) fn new(table: Table, path: String, report: &'a mut Report) -> Self {
        Self { table, path, asked: Vec::new(), report }
    }

    /// Whether a key that was not taken yet is given.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where problems go.
    pub(super) fn report(&mut self) -> &mut Report {
        self.report
    }

    /// The path of a key of this table.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// A key's value; `None` if it is not given or wrong.
    pub(super) fn take<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let (path, node) = self.take_node(key);
        self.report.asked.insert(path.clone());
        let node = node?;
        self.report.origins.insert(path.clone(), node.origin.clone());
        match T::read(&node.value) {
            Ok(value) => Some(value),
            Err(mismatch) => {
                let value = node.value.shown(key);
                self.report.problems.push(Problem {
                    key: path,
                    value,
                    origin: Some(node.origin),
                    message: format!("expected {}", mismatch.expected),
                    nearest: mismatch.nearest,
                });
                None
            }
        }
    }

    /// A table inside this one; empty if it is not given.
    pub(super) fn section(&mut self, key: &'static str) -> Reader<'_> {
        let (path, node) = self.take_node(key);
        let table = match node {
            None => Table::new(),
            Some(node) => self.table_of(&path, node),
        };
        Reader::new(table, path, self.report)
    }

    /// Reads each table of a table by its name.
    pub(super) fn each_named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, Origin, Reader<'_>) -> T,
    ) -> Vec<T> {
        let (path, node) = self.take_node(key);
        let tables = node.map(|node| self.table_of(&path, node)).unwrap_or_default();
        let mut results = Vec::new();
        for (name, node) in tables {
            let path = join(&path, &name);
            let origin = node.origin.clone();
            let table = self.table_of(&path, node);
            results.push(read(&name, origin, Reader::new(table, path, self.report)));
        }
        results
    }

    /// Reads each table of a list of tables.
    pub(super) fn each_listed<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(Reader<'_>) -> T,
    ) -> Vec<T> {
        let (path, node) = self.take_node(key);
        let items = match node {
            None => Vec::new(),
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => {
                self.expected(
                    &path,
                    &node,
                    &format!("a list of tables, [[{path}]], which only the file can hold"),
                );
                Vec::new()
            }
        };
        let mut results = Vec::new();
        for (index, node) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let table = self.table_of(&path, node);
            results.push(read(Reader::new(table, path, self.report)));
        }
        results
    }

    /// Ends the reading: what is left over is unknown.
    pub(super) fn finish(self) {
        let Self { table, path, asked, report } = self;
        for (key, node) in table {
            let (section, siblings) = (path.clone(), asked.clone());
            report.unknown.push(Unknown { section, key, origin: node.origin, siblings });
        }
    }

    fn take_node(&mut self, key: &'static str) -> (String, Option<Node>) {
        self.asked.push(key);
        (self.path_of(key), self.table.remove(key))
    }

    fn table_of(&mut self, path: &str, node: Node) -> Table {
        match node.value {
            Value::Table(table) => table,
            _ => {
                self.expected(path, &node, &format!("a section, [{path}]"));
                Table::new()
            }
        }
    }

    fn expected(&mut self, path: &str, node: &Node, expected: &str) {
        self.report.problems.push(Problem {
            key: path.to_owned(),
            value: node.value.shown(path),
            origin: Some(node.origin.clone()),
            message: format!("expected {expected}"),
            nearest: None,
        });
    }
}

/// The key that a field holds; fields whose key is a word of the language are written `r#match`.
pub(super) fn key_of(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// A table's keys as given: fields with their defaults, read from a table over a base. The doc comment of a field is its
/// meaning in the reference, so it is in Markdown and for users. After `=>` stands what holds if the default is none and
/// nothing else that is configured says otherwise.
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $field_vis:vis $field:ident: $kind:ty = $default:expr $(=> $filled_in:expr)?,
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $($(#[doc = $meaning])+ $field_vis $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// What the table gives, and for the rest what `base` has.
            pub(super) fn read(mut reader: $crate::config::reader::Reader<'_>, base: &Self) -> Self {
                let section = Self {
                    $(
                        $field: reader
                            .take($crate::config::reader::key_of(stringify!($field)))
                            .unwrap_or_else(|| base.$field.clone()),
                    )*
                };
                reader.finish();
                section
            }

            /// Each key as the reference has it.
            pub(super) fn describe() -> Vec<$crate::config::description::KeyDescription> {
                use $crate::config::setting::Setting as _;
                let defaults = Self::default();
                vec![$($crate::config::description::KeyDescription {
                    name: $crate::config::reader::key_of(stringify!($field)),
                    kind: <$kind>::kind(),
                    default: defaults.$field.shown()$(.or_else(|| $filled_in.shown()))?,
                    meaning: concat!($($meaning),+),
                },)*]
            }
        }
    };
}
pub(super) use keys;

/// Keys that are a section of the configuration in force just as they are given.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[doc = $meaning:literal])+ pub $field:ident: $kind:ty = $default:expr,)*
        }
    ) => {
        $crate::config::reader::keys! {
            $(#[$meta])*
            pub struct $name {
                $($(#[doc = $meaning])+ pub $field: $kind = $default,)*
            }
        }

        impl $name {
            /// Each key with its value as the file would hold it; `None`: not set.
            pub(super) fn shown(&self) -> Vec<(&'static str, Option<String>)> {
                use $crate::config::setting::Setting as _;
                vec![$(($crate::config::reader::key_of(stringify!($field)), self.$field.shown()),)*]
            }
        }
    };
}
pub(super) use section;
