//! Rows of any table on their way in and out: lists of values by column, and rows of values.

use tokio_postgres::Row;

use super::arguments::{Argument, argument};
use super::columns::Columns;
use super::fault::{Attempt, damaged};
use crate::store::copy::rows::{Cell, Column, Group, Kind, Table};

/// The values of one column, row by row.
pub(super) enum ColumnValues {
    Ints(Vec<Option<i64>>),
    Bools(Vec<Option<bool>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl ColumnValues {
    /// The columns of some rows.
    pub(super) fn of(table: &Table, group: Group) -> Attempt<Vec<Self>> {
        let empty = |column: &Column| match column.kind {
            Kind::Int => Self::Ints(Vec::new()),
            Kind::Bool => Self::Bools(Vec::new()),
            Kind::Text => Self::Texts(Vec::new()),
            Kind::Bytes => Self::Bytes(Vec::new()),
        };
        let mut columns: Vec<_> = table.columns.iter().map(empty).collect();
        for row in group.rows {
            for ((values, column), cell) in columns.iter_mut().zip(&table.columns).zip(row) {
                if !values.push(cell) {
                    return Err(damaged(&format!(
                        "column {} of {} holds another kind",
                        column.name, table.name
                    )));
                }
            }
        }
        Ok(columns)
    }

    /// Adds a value; `false`: it is of another kind.
    fn push(&mut self, cell: Cell) -> bool {
        match (self, cell) {
            (Self::Ints(values), Cell::Int(value)) => values.push(Some(value)),
            (Self::Bools(values), Cell::Int(value @ (0 | 1))) => values.push(Some(value == 1)),
            (Self::Texts(values), Cell::Text(value)) => values.push(Some(value)),
            (Self::Bytes(values), Cell::Bytes(value)) => values.push(Some(value)),
            (Self::Ints(values), Cell::Null) => values.push(None),
            (Self::Bools(values), Cell::Null) => values.push(None),
            (Self::Texts(values), Cell::Null) => values.push(None),
            (Self::Bytes(values), Cell::Null) => values.push(None),
            _ => return false,
        }
        true
    }

    /// As a statement takes them.
    pub(super) fn argument(&self) -> Argument<'_> {
        match self {
            Self::Ints(values) => argument(values),
            Self::Bools(values) => argument(values),
            Self::Texts(values) => argument(values),
            Self::Bytes(values) => argument(values),
        }
    }
}

/// A row's values.
pub(super) fn cells(row: &Row, columns: &[Column]) -> Attempt<Vec<Cell>> {
    let mut values = Columns::of(row);
    let cell = |column: &Column| {
        let cell = match column.kind {
            Kind::Int => values.take::<Option<i64>>()?.map(Cell::Int),
            Kind::Bool => values.take::<Option<bool>>()?.map(|value| Cell::Int(value.into())),
            Kind::Text => values.take::<Option<String>>()?.map(Cell::Text),
            Kind::Bytes => values.take::<Option<Vec<u8>>>()?.map(Cell::Bytes),
        };
        Ok(cell.unwrap_or(Cell::Null))
    };
    columns.iter().map(cell).collect()
}
