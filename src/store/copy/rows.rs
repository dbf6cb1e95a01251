//! Rows of any table as both databases mean them: what is copied, and what is summed up to compare the two.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The most rows that one transaction writes.
const GROUP_ROWS: usize = 512;
/// A group takes no further row once it holds so many bytes.
const GROUP_BYTES: usize = 1024 * 1024;

/// Whether a table tells of processes that run on one database, and of nothing that is kept: it is not copied.
pub(in crate::store) fn is_of_workers(table: &str) -> bool {
    table == "worker" || table.starts_with("ledger_")
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Cell {
    /// Nothing.
    Null,
    /// A number, or a truth as 0 or 1.
    Int(i64),
    /// A text.
    Text(String),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    /// Numbers.
    Int,
    /// Truths; one of the databases has numbers for them.
    Bool,
    /// Texts.
    Text,
    /// Bytes.
    Bytes,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Column {
    /// Its name.
    pub(in crate::store) name: String,
    /// What it holds.
    pub(in crate::store) kind: Kind,
}

/// A table that both databases have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Table {
    /// Its name.
    pub(in crate::store) name: String,
    /// Its columns, in the order that rows have them.
    pub(in crate::store) columns: Vec<Column>,
    /// Which columns, in which order, make the primary key: rows are copied and summed up in its order.
    pub(in crate::store) key: Vec<usize>,
    /// The column whose values the database gives, never the same twice.
    pub(in crate::store) identity: Option<String>,
}

impl Table {
    /// The columns as a list for a statement.
    pub(in crate::store) fn column_list(&self) -> String {
        list(self.columns.iter())
    }

    /// The columns of the key as a list for a statement.
    pub(in crate::store) fn key_list(&self) -> String {
        list(self.key_columns())
    }

    /// The columns of the key.
    pub(in crate::store) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|&index| self.columns.get(index))
    }
}

/// Names as statements want them: some are words of the language.
fn list<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    columns.map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
}

/// Rows that are written together.
#[derive(Debug, Default)]
pub(in crate::store) struct Group {
    /// The rows, each with a value for every column.
    pub(in crate::store) rows: Vec<Vec<Cell>>,
    bytes: usize,
}

impl Group {
    /// Adds a row; `true`: it is full now.
    pub(in crate::store) fn add(&mut self, row: Vec<Cell>) -> bool {
        let length = |cell: &Cell| match cell {
            Cell::Null | Cell::Int(_) => 8,
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
        };
        self.bytes += row.iter().map(length).sum::<usize>();
        self.rows.push(row);
        self.rows.len() >= GROUP_ROWS || self.bytes >= GROUP_BYTES
    }
}

/// How many rows there are and what they say, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The number of rows.
    pub rows: u64,
    /// SHA-256 over every value of every row.
    pub sha256: [u8; 32],
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} rows, SHA-256 {}", self.rows, self.hex())
    }
}

impl Tally {
    /// The sum as it is usually written.
    pub fn hex(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Makes a [`Tally`] of rows.
#[derive(Default)]
pub(in crate::store) struct Tallying {
    hash: Sha256,
    rows: u64,
}

impl Tallying {
    /// Takes the next row. Each value goes in with its kind and its length, so that no two lists of rows read the same.
    pub(in crate::store) fn add(&mut self, row: &[Cell]) {
        self.rows += 1;
        for cell in row {
            match cell {
                Cell::Null => self.hash.update([0]),
                Cell::Int(value) => {
                    self.hash.update([1]);
                    self.hash.update(value.to_le_bytes());
                }
                Cell::Text(text) => self.add_bytes(2, text.as_bytes()),
                Cell::Bytes(bytes) => self.add_bytes(3, bytes),
            }
        }
    }

    fn add_bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.hash.update([kind]);
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    /// What it comes to.
    pub(in crate::store) fn finish(self) -> Tally {
        Tally { rows: self.rows, sha256: self.hash.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(rows: &[&[Cell]]) -> Tally {
        let mut tallying = Tallying::default();
        rows.iter().for_each(|row| tallying.add(row));
        tallying.finish()
    }

    #[test]
    fn no_two_lists_of_rows_sum_up_alike() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let lists: [&[&[Cell]]; 8] = [
            &[],
            &[&[Cell::Null]],
            &[&[Cell::Int(0)]],
            &[&[text("")]],
            &[&[Cell::Bytes(Vec::new())]],
            &[&[text("ab"), text("c")]],
            &[&[text("a"), text("bc")]],
            &[&[text("a")], &[text("bc")]],
        ];
        for (index, list) in lists.iter().enumerate() {
            for other in &lists[..index] {
                assert_ne!(tally(list), tally(other), "{list:?} {other:?}");
            }
            assert_eq!(tally(list), tally(list));
        }
    }

    #[test]
    fn a_group_is_full_by_rows_or_by_bytes() {
        let mut group = Group::default();
        let full = (1..=GROUP_ROWS).position(|_| group.add(vec![Cell::Int(1)]));
        assert_eq!(full, Some(GROUP_ROWS - 1));
        let mut group = Group::default();
        assert!(!group.add(vec![Cell::Bytes(vec![0; GROUP_BYTES - 1])]));
        assert!(group.add(vec![Cell::Null]));
    }
}
