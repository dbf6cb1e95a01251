//! The flags that say what is asked, of `run` and of `submit`.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::super::error::CliError;
use crate::domain::endpoint::Endpoint;

/// What is asked.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What is asked")]
pub struct JobArguments {
    /// A table (CSV with a header, or JSONL) with --prompt; else a JSONL file of requests
    #[arg(value_name = "INPUT", help_heading = None)]
    pub input: PathBuf,
    /// What each row is asked; {{name}} stands for its cell in the column `name`
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_file", requires = "model")]
    pub prompt: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", requires = "model")]
    pub prompt_file: Option<PathBuf>,
    /// What the model is told before; may name columns too
    #[arg(long, value_name = "TEXT", requires = "model")]
    pub system: Option<String>,
    /// Who is asked
    #[arg(long, short, value_name = "NAME")]
    pub model: Option<String>,
    /// A further field of each request, such as `temperature=0`; the value is JSON, or else text. May be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = name_and_value, requires = "model")]
    pub param: Vec<(String, Value)>,
    /// What is called: /v1/chat/completions, unless the model is Anthropic's (/v1/messages)
    #[arg(long, value_name = "PATH", value_parser = endpoint, requires = "model")]
    pub endpoint: Option<Endpoint>,
    /// Only the first N requests: to try
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

impl JobArguments {
    /// The prompt, if there is one.
    pub(super) fn prompt(&self) -> Result<Option<String>, CliError> {
        let Some(path) = &self.prompt_file else {
            if self.prompt.is_none() && self.model.is_some() {
                return Err(CliError::Use("--model needs --prompt: what is asked?".to_owned()));
            }
            return Ok(self.prompt.clone());
        };
        let text =
            std::fs::read_to_string(path).map_err(|error| CliError::Local { path: path.clone(), error })?;
        Ok(Some(text.trim_end().to_owned()))
    }
}

fn name_and_value(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            Ok((name.trim().to_owned(), value))
        }
        _ => Err("expected NAME=VALUE, such as temperature=0".to_owned()),
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let path = format!("/v1/{}", text.trim_start_matches('/').trim_start_matches("v1/"));
    Endpoint::from_path(&path).ok_or_else(|| {
        let paths = Endpoint::ALL.map(Endpoint::path);
        format!("expected one of {}", paths.join(", "))
    })
}
