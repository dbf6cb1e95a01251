//! The upstream endpoints that a line may name.

/// An endpoint of the batch API: the path that a line's `url` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/completions`
    Completions,
    /// `/v1/moderations`
    Moderations,
    /// `/v1/messages`, Anthropic's
    Messages,
}

impl Endpoint {
    /// Every endpoint, in the order of their bits.
    pub const ALL: [Self; 6] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Embeddings,
        Self::Completions,
        Self::Moderations,
        Self::Messages,
    ];

    /// The path on our side, `/v1` included.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Embeddings => "/v1/embeddings",
            Self::Completions => "/v1/completions",
            Self::Moderations => "/v1/moderations",
            Self::Messages => "/v1/messages",
        }
    }

    /// The path after `/v1`, which is appended to a provider's `base_url`.
    pub fn upstream_path(self) -> &'static str {
        &self.path()["/v1".len()..]
    }

    /// The endpoint of a path, exactly as written.
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// Its place in [`Endpoint::ALL`].
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// Its bit in a set of endpoints, `1 << index`.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether a body may leave `model` out.
    pub const fn model_is_optional(self) -> bool {
        matches!(self, Self::Moderations)
    }
}
