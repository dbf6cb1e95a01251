//! What is wrong with a configuration, where it was given, and what would be right.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Where a value came from, the weakest source first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    /// A line of the file.
    File {
        /// The file's name as it was given.
        path: Arc<str>,
        /// Its line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// An argument of the command.
    Flag {
        /// The flag, with its dashes.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(formatter, "{path}:{line}"),
            Self::Variable { name } | Self::Flag { name } => formatter.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key with its section, such as `server.listen`; empty for a file that can't be read.
    pub key: String,
    /// The value as given, masked where it may be a secret.
    pub value: Option<String>,
    /// Where it was given; `None` if it was given nowhere.
    pub origin: Option<Origin>,
    /// What is wrong or expected, in words.
    pub message: String,
    /// The nearest valid key or value.
    pub nearest: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, origin, message, nearest } = self;
        if let Some(origin) = origin {
            write!(formatter, "{origin}: ")?;
        }
        match value {
            Some(value) => write!(formatter, "{key} = {value}: {message}")?,
            None if key.is_empty() => formatter.write_str(message)?,
            None => write!(formatter, "{key} {message}")?,
        }
        match nearest {
            Some(nearest) => write!(formatter, "; the nearest is {nearest}"),
            None => Ok(()),
        }
    }
}

/// A configuration that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Everything that is wrong, at once.
    #[error("{}", Listed(.0))]
    Problems(Vec<Problem>),
    /// Nothing says where requests should go.
    #[error("{NO_PROVIDER}")]
    NoProvider,
}

/// What `serve` says when it has no provider: three ways to give it one.
const NO_PROVIDER: &str = "\
no provider is configured: there is nowhere to send requests to. Any of these is enough:
  1. a key in the environment:         OPENAI_API_KEY=sk-… sluicegate serve
     (or ANTHROPIC_API_KEY, OPENROUTER_API_KEY)
  2. a model server of your own:       OPENAI_BASE_URL=http://127.0.0.1:8000/v1 sluicegate serve
     (llama.cpp, vLLM, …; for Ollama: OLLAMA_HOST=127.0.0.1:11434)
  3. a table in ./sluicegate.toml:     [providers.openai]
                                       api_key_env = \"OPENAI_API_KEY\"
                                       limits.requests = \"500/min\"
To look around first, without any of them: sluicegate demo";

struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [problem] => write!(formatter, "configuration: {problem}"),
            problems => {
                write!(formatter, "configuration: {} problems", problems.len())?;
                problems.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
            }
        }
    }
}
