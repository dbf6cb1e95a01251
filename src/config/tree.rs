//! Configuration as given: nested tables of values that remember where they stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};
use super::secret::{is_sensitive, masked};

/// Values by key.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A value as given.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// From a variable or flag: the key's type decides how it is read.
    Raw(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// Of a type that no key has (dates, integers beyond 64 bits), as written.
    Other(String),
}

impl Value {
    /// The value for an error message, masked where it may hold a secret, and cut short.
    pub(super) fn shown(&self, key: &str) -> Option<String> {
        const LONGEST: usize = 80;
        // A limit of tokens counts other tokens than those that let one in.
        if is_sensitive(key) && !key.starts_with("api_key_") && !key.ends_with("tokens") {
            return Some(super::secret::MASK.to_owned());
        }
        let text = match self {
            Self::Raw(text) | Self::Text(text) => format!("{:?}", masked(text)),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::Other(text) => text.clone(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().filter_map(|item| item.value.shown(key)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Table(_) => "{…}".to_owned(),
        };
        match text.char_indices().nth(LONGEST) {
            Some((cut, _)) => Some(format!("{}…", &text[..cut])),
            None => Some(text),
        }
    }
}

/// Reads a file's text.
///
/// # Errors
/// Everything that is not TOML. The messages never quote the file: the line may hold a secret.
pub(super) fn parse_file(path: &str, text: &str) -> Result<Table, Vec<Problem>> {
    let path: Arc<str> = Arc::from(path);
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |offset: usize| Origin::File { path: Arc::clone(&path), line: line_of(text, offset) };
    if !errors.is_empty() {
        let problem = |error: &toml::de::Error| Problem {
            key: String::new(),
            value: None,
            origin: Some(place(error.span().map_or(0, |span| span.start))),
            message: format!("not TOML: {}", error.message().trim()),
            nearest: None,
        };
        return Err(errors.iter().map(problem).collect());
    }
    Ok(convert_table(table.get_ref(), &place))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn convert_table(table: &DeTable<'_>, place: &dyn Fn(usize) -> Origin) -> Table {
    let convert_entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        // A key's own line, not its value's: that is where the name stands that a message quotes.
        (name.to_string(), convert(value.get_ref(), place(key.span().start), place))
    };
    table.iter().map(convert_entry).collect()
}

fn convert(value: &DeValue<'_>, origin: Origin, place: &dyn Fn(usize) -> Origin) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other(number.to_string()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Other(number.as_str().to_owned()),
        },
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(moment) => Value::Other(moment.to_string()),
        DeValue::Array(items) => {
            let convert_item =
                |item: &toml::Spanned<_>| convert(item.get_ref(), place(item.span().start), place);
            Value::List(items.iter().map(convert_item).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, place)),
    };
    Node { value, origin }
}

/// Lays a text over whatever stands at `path`; missing tables on the way are made.
///
/// # Errors
/// Something that is not a table stands on the way.
pub(super) fn overlay(
    table: &mut Table,
    path: &[&str],
    text: &str,
    origin: &Origin,
) -> Result<(), Box<Problem>> {
    let Some((last, way)) = path.split_last() else {
        return Ok(());
    };
    let mut at = table;
    for (depth, name) in way.iter().enumerate() {
        let empty = || Node { value: Value::Table(Table::new()), origin: origin.clone() };
        at = match &mut at.entry((*name).to_owned()).or_insert_with(empty).value {
            Value::Table(inner) => inner,
            other => {
                let message = match other {
                    Value::List(_) => {
                        "is a list, which can only be given whole; one of tables only in the file"
                    }
                    _ => "is a value, not a section",
                };
                let (key, origin, message) =
                    (path[..=depth].join("."), Some(origin.clone()), message.to_owned());
                return Err(Box::new(Problem { key, value: None, origin, message, nearest: None }));
            }
        };
    }
    let node = Node { value: Value::Raw(text.to_owned()), origin: origin.clone() };
    at.insert((*last).to_owned(), node);
    Ok(())
}
