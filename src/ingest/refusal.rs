//! Why an upload is refused as a whole; everything else is listed line by line.

/// Why an upload is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No byte in it.
    #[error("The file is empty; send one JSON request a line.")]
    Empty,
    /// Not one line with something on it.
    #[error("The file has only blank lines; send one JSON request a line.")]
    OnlyBlankLines,
    /// What it starts with is no JSON: most likely the wrong file.
    #[error(
        "Invalid file format, first line: {reason} Send JSONL: on each line one request, no array around them."
    )]
    FirstLineNotJson {
        /// What the parser said.
        reason: String,
    },
    /// More lines than a batch may have.
    #[error("The file has more than {max} requests (batches.max_items); split it.")]
    TooManyItems {
        /// The configured limit.
        max: u64,
    },
    /// More bytes than a file may have.
    #[error("The file is larger than {max} bytes (batches.max_file); split it.")]
    TooLarge {
        /// The configured limit.
        max: u64,
    },
}

impl Refusal {
    /// Whether its size is the reason: 413 instead of 400.
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooManyItems { .. } | Self::TooLarge { .. })
    }
}
