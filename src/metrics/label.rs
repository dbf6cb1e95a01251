//! The values that labels may take: closed sets, so that the number of series is bounded.

macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of their indexes.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// The value as the label shows it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Its place in `ALL`.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// How an item or an interactive call ended.
    Outcome {
        /// With the provider's answer.
        Succeeded = "succeeded",
        /// With an error that is final.
        Failed = "failed",
        /// Its batch's deadline came first.
        Expired = "expired",
        /// Its batch was cancelled, or its client went away.
        Cancelled = "cancelled",
    }
}

label! {
    /// How one upstream call ended.
    AttemptClass {
        /// 2xx without an `error` in it.
        Ok = "ok",
        /// 429.
        RateLimited = "rate_limited",
        /// 503 or 529.
        Overloaded = "overloaded",
        /// Any other 4xx.
        ClientError = "client_error",
        /// Any other 5xx, or a reply that is not what it should be.
        ServerError = "server_error",
        /// One of our timeouts ended it.
        Timeout = "timeout",
        /// No connection, or one that broke.
        Network = "network",
    }
}

label! {
    /// Why an item has to be sent again.
    RetryReason {
        /// 429 about a rate or concurrency: costs the item no attempt.
        RateLimited = "rate_limited",
        /// The lane stopped (credential, quota): costs the item no attempt.
        LaneStopped = "lane_stopped",
        /// 503 or 529.
        Overloaded = "overloaded",
        /// 408, 409 of a lock, or 425.
        Conflict = "conflict",
        /// Any other 5xx.
        ServerError = "server_error",
        /// One of our timeouts.
        Timeout = "timeout",
        /// A transport error.
        Network = "network",
        /// A 200 whose body is no answer.
        InvalidResponse = "invalid_response",
    }
}

label! {
    /// What a provider's 429 was about.
    Upstream429 {
        /// A rate of requests or tokens.
        Rate = "rate",
        /// Money or a quota that waiting does not bring back.
        Quota = "quota",
        /// Too many calls at once.
        Concurrency = "concurrency",
    }
}

label! {
    /// Whose call it is.
    Kind {
        /// An item of a batch.
        Batch = "batch",
        /// A client that waits.
        Interactive = "interactive",
    }
}

label! {
    /// What a lane does at the moment.
    LaneStateLabel {
        /// Calls may start.
        Open = "open",
        /// Closed until a time that the provider named.
        Cooldown = "cooldown",
        /// Closed by failures, probing.
        Breaker = "breaker",
        /// Stopped: the operator has to act.
        Stopped = "stopped",
        /// Paused by the operator.
        Paused = "paused",
    }
}

label! {
    /// Kinds of tokens as providers report them.
    TokenType {
        /// Input tokens, cached ones included.
        Input = "input",
        /// Output tokens.
        Output = "output",
        /// Input tokens that the provider's cache served.
        Cached = "cached",
    }
}

label! {
    /// How a batch ended: `OpenAI`'s terminal statuses.
    BatchOutcome {
        /// Every item has its result.
        Completed = "completed",
        /// Its input was refused.
        Failed = "failed",
        /// Its deadline came first.
        Expired = "expired",
        /// It was cancelled.
        Cancelled = "cancelled",
    }
}

label! {
    /// `OpenAI`'s statuses of a batch.
    BatchStatus {
        /// Its input is being checked.
        Validating = "validating",
        /// Its input was refused.
        Failed = "failed",
        /// Its items are being run.
        InProgress = "in_progress",
        /// Its last rows are being written.
        Finalizing = "finalizing",
        /// Every item has its result.
        Completed = "completed",
        /// Its deadline came first.
        Expired = "expired",
        /// A cancel is under way.
        Cancelling = "cancelling",
        /// It was cancelled.
        Cancelled = "cancelled",
    }
}

label! {
    /// What became of reading the configuration again while the service runs.
    ReloadOutcome {
        /// What changed of it holds.
        Applied = "applied",
        /// Nothing that could be taken over had changed.
        Unchanged = "unchanged",
        /// It can't be used, and everything stays as it was.
        Refused = "refused",
    }
}
