//! Results joined with the rows that they answer, written as a table or as JSON lines.

use std::io::Write;

use serde_json::json;

use super::answer::Answer;
use super::error::TableError;
use super::layout::{Format, Layout};
use super::recipe::Recipe;
use super::rows::{Cells, Row, Rows};

/// What is added to each row.
const ADDED: [&str; 5] = ["answer", "status", "error", "input_tokens", "output_tokens"];

/// Failures that are told of one by one.
const MOST_TOLD: usize = 3;

/// What was written.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Tally {
    /// Requests that succeeded.
    pub(in crate::cli) succeeded: u64,
    /// Requests that did not.
    pub(in crate::cli) failed: u64,
    /// Rows that were not sent.
    pub(in crate::cli) skipped: u64,
    /// The first failures, for a person.
    pub(in crate::cli) failures: Vec<String>,
}

/// The rows of an input that wait for their results.
pub(in crate::cli) struct Awaiting {
    rows: Rows,
    /// Rows read so far.
    number: u64,
    columns: Vec<String>,
    delimiter: u8,
    byte_order_mark: bool,
}

/// Where answers are written to, in the order of the input.
pub(in crate::cli) struct Answers<W: Write> {
    sink: Sink<W>,
    awaiting: Option<Awaiting>,
    added: Vec<String>,
    tally: Tally,
}

enum Sink<W: Write> {
    Cells(Box<csv::Writer<W>>),
    Lines(W),
}

impl Awaiting {
    /// The rows of an opened table; `columns` are all that it has.
    pub(in crate::cli) fn new(rows: Rows, columns: Vec<String>, layout: &Layout) -> Self {
        let delimiter = if layout.format == Format::Csv { layout.delimiter } else { b',' };
        Self { rows, number: 0, columns, delimiter, byte_order_mark: layout.has_byte_order_mark() }
    }
}

impl<W: Write> Answers<W> {
    /// Starts a file; a table's header is written at once. Without rows, each result is a row by itself.
    ///
    /// # Errors
    /// It can't be written.
    pub(in crate::cli) fn new(
        mut to: W,
        format: Format,
        awaiting: Option<Awaiting>,
    ) -> Result<Self, TableError> {
        let columns = awaiting.as_ref().map_or_else(|| vec!["custom_id".to_owned()], |it| it.columns.clone());
        let added = ADDED.map(|name| free_name(name, &columns)).to_vec();
        let sink = match format {
            Format::Jsonl => Sink::Lines(to),
            Format::Csv => {
                if awaiting.as_ref().is_some_and(|it| it.byte_order_mark) {
                    to.write_all(b"\xEF\xBB\xBF")?;
                }
                let delimiter = awaiting.as_ref().map_or(b',', |it| it.delimiter);
                let mut writer =
                    csv::WriterBuilder::new().delimiter(delimiter).flexible(true).from_writer(to);
                writer.write_record(columns.iter().chain(&added)).map_err(csv_error)?;
                Sink::Cells(Box::new(writer))
            }
        };
        Ok(Self { sink, awaiting, added, tally: Tally::default() })
    }

    /// Takes the next result, a line without its end.
    ///
    /// # Errors
    /// It is none, it is of another input, or it can't be written.
    pub(in crate::cli) fn take(&mut self, line: &[u8]) -> Result<(), TableError> {
        let answer = Answer::read(line)?;
        if answer.status == "succeeded" {
            self.tally.succeeded += 1;
        } else {
            self.tally.failed += 1;
        }
        loop {
            let Some(awaiting) = &mut self.awaiting else {
                self.tell(&answer, None);
                return self.write_result(line, &answer);
            };
            let Some(row) = awaiting.rows.next() else {
                let message =
                    format!("no row belongs to the result {:?}: the input has changed", answer.custom_id);
                return Err(TableError::whole(message));
            };
            let row = row?;
            awaiting.number += 1;
            if Recipe::custom_id(awaiting.number) == answer.custom_id {
                self.tell(&answer, Some(&row));
                return self.write_row(&row, &answer);
            }
            self.skip(&row)?;
        }
    }

    /// Writes what is left of the input, unless it was only run up to here, and tells what was written.
    ///
    /// # Errors
    /// It can't be written.
    pub(in crate::cli) fn finish(mut self, with_rest: bool) -> Result<Tally, TableError> {
        while with_rest
            && let Some(awaiting) = &mut self.awaiting
            && let Some(row) = awaiting.rows.next()
        {
            self.skip(&row?)?;
        }
        match self.sink {
            Sink::Cells(mut writer) => writer.flush()?,
            Sink::Lines(mut to) => to.flush()?,
        }
        Ok(self.tally)
    }

    fn skip(&mut self, row: &Row) -> Result<(), TableError> {
        self.tally.skipped += 1;
        let error = "not sent: nothing in the columns that the prompt names".to_owned();
        self.write_row(row, &Answer { status: "skipped", error, ..Answer::default() })
    }

    fn tell(&mut self, answer: &Answer, row: Option<&Row>) {
        if answer.status != "succeeded" && self.tally.failures.len() < MOST_TOLD {
            let place = row.map_or_else(|| answer.custom_id.clone(), |row| format!("line {}", row.line));
            self.tally.failures.push(format!("{place}: {}", answer.error));
        }
    }

    fn write_result(&mut self, line: &[u8], answer: &Answer) -> Result<(), TableError> {
        match &mut self.sink {
            Sink::Cells(writer) => {
                let cells = [answer.custom_id.clone()].into_iter().chain(cells_of(answer));
                writer.write_record(cells).map_err(csv_error)
            }
            Sink::Lines(to) => {
                to.write_all(line)?;
                Ok(to.write_all(b"\n")?)
            }
        }
    }

    fn write_row(&mut self, row: &Row, answer: &Answer) -> Result<(), TableError> {
        let columns = self.awaiting.as_ref().map_or(&[][..], |it| &it.columns[..]);
        match &mut self.sink {
            Sink::Cells(writer) => {
                let cell = |column: &String| row.cell(column.trim()).unwrap_or_default().into_owned();
                let cells: Vec<String> = match &row.cells {
                    // By position: names may stand twice.
                    Cells::Record(header, record) => (0..header.len())
                        .map(|index| record.get(index).unwrap_or_default().to_owned())
                        .collect(),
                    Cells::Fields(_) => columns.iter().map(cell).collect(),
                };
                writer.write_record(cells.into_iter().chain(cells_of(answer))).map_err(csv_error)
            }
            Sink::Lines(to) => {
                let mut fields: Vec<String> = match &row.cells {
                    Cells::Record(header, record) => (header.iter().zip(0..))
                        .map(|(name, index)| {
                            format!("{}:{}", json!(name), json!(record.get(index).unwrap_or_default()))
                        })
                        .collect(),
                    Cells::Fields(fields) => fields
                        .iter()
                        .map(|(name, value)| format!("{}:{}", json!(name), value.get()))
                        .collect(),
                };
                let text = |text: &str, wanted: bool| if wanted { json!(text) } else { json!(null) };
                let values = [
                    text(&answer.text, answer.status == "succeeded"),
                    json!(answer.status),
                    text(&answer.error, !answer.error.is_empty()),
                    json!(answer.input_tokens),
                    json!(answer.output_tokens),
                ];
                fields.extend(
                    self.added.iter().zip(values).map(|(name, value)| format!("{}:{value}", json!(name))),
                );
                Ok(writeln!(to, "{{{}}}", fields.join(","))?)
            }
        }
    }
}

fn cells_of(answer: &Answer) -> [String; 5] {
    let number = |tokens: Option<u64>| tokens.map(|tokens| tokens.to_string()).unwrap_or_default();
    [
        answer.text.clone(),
        answer.status.to_owned(),
        answer.error.clone(),
        number(answer.input_tokens),
        number(answer.output_tokens),
    ]
}

/// The name, or with a number if the input has a column of that name.
fn free_name(name: &str, columns: &[String]) -> String {
    let is_free = |name: &String| !columns.iter().any(|column| column.trim() == name);
    let numbered = (2_u32..).map(|number| format!("{name}_{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

fn csv_error(error: csv::Error) -> TableError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => TableError::Io(error),
        kind => TableError::whole(format!("the table can't be written: {kind:?}")),
    }
}
