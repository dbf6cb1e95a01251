//! Results into the output.

use super::super::client::Client;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::table::{Answers, Awaiting, Format, Job, Rows, Survey, TableError, Tally};
use super::latest::LatestResults;

/// What is written, and how.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Written<'a> {
    /// Where to.
    pub(in crate::cli) output: &'a Output,
    /// How it looks.
    pub(in crate::cli) format: Format,
    /// The table whose rows are written with their answers; `None`: the results by themselves.
    pub(in crate::cli) table: Option<(&'a Job, &'a Survey)>,
}

/// Writes the results of a job whose parts, in this order, were each tried by these batches: the first had all requests of
/// the part, and each later one what did not succeed in one before it.
///
/// # Errors
/// The service can't be read, or the output can't be written; nothing of it is left then.
pub(in crate::cli) async fn write_results(
    client: &Client,
    parts: &[Vec<String>],
    written: Written<'_>,
) -> Result<Tally, CliError> {
    let to_output = |error: TableError| match (error, written.output.path()) {
        (TableError::Io(error), Some(path)) => CliError::Local { path: path.to_owned(), error },
        (TableError::Io(error), None) => CliError::Output(error),
        (error, _) => {
            let path = written.table.map(|(job, _)| job.input.clone()).unwrap_or_default();
            CliError::Table { path, error }
        }
    };
    let awaiting = |(job, survey): (&Job, &Survey)| {
        let rows = Rows::open(&job.input, &job.layout)?;
        Ok::<_, TableError>(Awaiting::new(rows, survey.columns.clone(), &job.layout))
    };
    let awaiting = written.table.map(awaiting).transpose().map_err(to_output)?;
    let mut writing = written.output.open()?;
    let mut answers = Answers::new(&mut writing, written.format, awaiting).map_err(to_output)?;
    for batches in parts {
        let mut results = LatestResults::open(client, batches).await?;
        while let Some(line) = results.next().await? {
            answers.take(&line).map_err(to_output)?;
        }
    }
    let with_rest = written.table.is_none_or(|(job, _)| job.limit.is_none());
    let tally = answers.finish(with_rest).map_err(to_output)?;
    writing.finish().map_err(|error| to_output(error.into()))?;
    Ok(tally)
}
