//! The four sources of configuration, laid over one another, the weakest first.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::problem::{Origin, Problem};
use super::tree::{self, Node, Table, Value};
use super::wellknown::{self, Found};

/// What every variable that sets a key starts with.
const VARIABLE_PREFIX: &str = "SLUICEGATE__";

/// The variable that names the file.
const FILE_VARIABLE: &str = "SLUICEGATE_CONFIG";

/// Where a file is looked for that no one named.
const USUAL_FILES: [&str; 2] = ["./sluicegate.toml", "/etc/sluicegate/sluicegate.toml"];

/// Environment variables, taken once. It never prints a value.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// A variable's value; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// A key set on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The flag as the user wrote it, such as `--listen`.
    pub flag: String,
    /// The key with its section, such as `server.listen`.
    pub key: String,
    /// Its value, read by the key's type.
    pub value: String,
}

/// Reads a file whole.
pub type ReadFile<'a> = dyn Fn(&Path) -> io::Result<String> + 'a;

/// Everything that configuration is made from; nothing else is looked at.
pub struct Sources<'a> {
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
    /// What the command line sets.
    pub overrides: Vec<Override>,
    /// How files are read.
    pub read_file: &'a ReadFile<'a>,
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, environment, overrides, read_file: _ } = self;
        let mut shown = formatter.debug_struct("Sources");
        shown.field("file", file).field("environment", environment).field("overrides", overrides);
        shown.finish_non_exhaustive()
    }
}

/// All sources as one tree.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) table: Table,
    /// The providers that came from the environment's well-known names; their tables are in `table`.
    pub(super) found: Found,
    pub(super) problems: Vec<Problem>,
}

impl Sources<'_> {
    /// The files of which the first that there is is read: one, if it was named.
    pub fn files(&self) -> Vec<PathBuf> {
        match self.file.clone().or_else(|| self.environment.get(FILE_VARIABLE).map(PathBuf::from)) {
            Some(named) => vec![named],
            None => USUAL_FILES.map(PathBuf::from).to_vec(),
        }
    }

    pub(super) fn merge(&self) -> Merged {
        let mut merged = Merged::default();
        match self.file_text() {
            Err(problem) => merged.problems.push(*problem),
            Ok(None) => {}
            Ok(Some((path, text))) => match tree::parse_file(&path, &text) {
                Ok(table) => merged.table = table,
                Err(problems) => merged.problems.extend(problems),
            },
        }
        let names_none = |node: &Node| matches!(&node.value, Value::Table(named) if named.is_empty());
        if merged.table.get("providers").is_none_or(names_none) {
            merged.add_well_known(&self.environment);
        }
        for (name, value) in &self.environment.0 {
            if let Some(path) = name.strip_prefix(VARIABLE_PREFIX) {
                let path = path.to_ascii_lowercase();
                merged.overlay(path.split("__"), value, &Origin::Variable { name: name.clone() });
            }
        }
        for Override { flag, key, value } in &self.overrides {
            merged.overlay(key.split('.'), value, &Origin::Flag { name: flag.clone() });
        }
        merged
    }

    /// The first file there is, with its name. One that was named must be there.
    fn file_text(&self) -> Result<Option<(String, String)>, Box<Problem>> {
        let named = match (&self.file, self.environment.get(FILE_VARIABLE)) {
            (Some(path), _) => Some((path.clone(), Origin::Flag { name: "--config".to_owned() })),
            (None, Some(path)) => {
                Some((PathBuf::from(path), Origin::Variable { name: FILE_VARIABLE.to_owned() }))
            }
            (None, None) => None,
        };
        let unreadable = |path: &Path, origin, error: &io::Error| {
            let message = format!("the configuration file {} can't be read: {error}", path.display());
            Box::new(Problem {
                key: String::new(),
                value: None,
                origin: Some(origin),
                message,
                nearest: None,
            })
        };
        let shown = |path: &Path| path.to_string_lossy().trim_start_matches("./").to_owned();
        if let Some((path, origin)) = named {
            let text = (self.read_file)(&path).map_err(|error| unreadable(&path, origin, &error))?;
            return Ok(Some((shown(&path), text)));
        }
        for path in USUAL_FILES.map(Path::new) {
            match (self.read_file)(path) {
                Ok(text) => return Ok(Some((shown(path), text))),
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    let origin = Origin::File { path: shown(path).into(), line: 1 };
                    return Err(unreadable(path, origin, &error));
                }
            }
        }
        Ok(None)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Merged {
    fn add_well_known(&mut self, environment: &Environment) {
        self.found = wellknown::find(environment);
        let tables = std::mem::take(&mut self.found.tables);
        let first_origin = tables.values().next().map(|node| node.origin.clone());
        if let Some(origin) = first_origin {
            let node = Node { value: Value::Table(tables), origin };
            self.table.insert("providers".to_owned(), node);
        }
    }

    fn overlay<'a>(&mut self, path: impl Iterator<Item = &'a str>, value: &str, origin: &Origin) {
        let path: Vec<_> = path.collect();
        if path.iter().any(|name| name.is_empty()) || path.len() < 2 {
            let message = format!(
                "{} names no key: expected a section and a key, in a variable with two underscores between, such as \
                 SLUICEGATE__LIMITS__REQUESTS",
                path.join(".")
            );
            let origin = Some(origin.clone());
            self.problems.push(Problem { key: String::new(), value: None, origin, message, nearest: None });
        } else if let Err(problem) = tree::overlay(&mut self.table, &path, value, origin) {
            self.problems.push(*problem);
        }
    }
}
