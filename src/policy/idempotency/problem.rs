//! What a client is told that gets no answer of the upstream: one closed vocabulary, spelled alike
//! in problem documents (RFC 9457), gRPC's error details, `Idempotency-Status` and README's table.
//!
//! Each code says what a program needs to know next: whether the same key may be sent again, and
//! whether a new key would be safe. Rendering is the proxy's.

/// When the same request may be sent again with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetrySameKey {
    /// It would be refused again.
    No,
    /// After the time in `Retry-After`, or once somebody has resolved it.
    Later,
    /// At once, with a backoff.
    Now,
}

impl RetrySameKey {
    /// The word in problem documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Later => "later",
            Self::Now => "now",
        }
    }
}

/// Declares the codes in one table: spelling, statuses of HTTP (the usual one first), gRPC's, what
/// may be done next, and the sentences.
macro_rules! codes {
    ($($name:ident = $text:literal, [$($status:literal),+], $grpc:literal, $same:ident,
       $new:literal, $title:literal, $detail:literal;)*) => {
        /// Why a request with a key got no answer of the upstream.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// Every code, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The spelling.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP statuses that it can have, the usual one first.
            #[must_use]
            pub const fn statuses(self) -> &'static [u16] {
                match self { $(Self::$name => &[$($status),+],)* }
            }

            /// The gRPC status.
            #[must_use]
            pub const fn grpc(self) -> u16 {
                match self { $(Self::$name => $grpc,)* }
            }

            /// When the same request may be sent again with the same key.
            #[must_use]
            pub const fn retry_same_key(self) -> RetrySameKey {
                match self { $(Self::$name => RetrySameKey::$same,)* }
            }

            /// Whether the operation may be sent under a new key without being executed twice.
            #[must_use]
            pub const fn new_key_safe(self) -> bool {
                match self { $(Self::$name => $new,)* }
            }

            /// What happened, in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What happened and what to do, in sentences.
            #[must_use]
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail,)* }
            }
        }
    };
}

codes! {
    KeyMissing = "key-missing", [400], 3, No, true,
        "The request has no idempotency key",
        "This operation takes requests with an idempotency key alone. Send one, and the same one \
         whenever you repeat the request.";
    KeyInvalid = "key-invalid", [400], 3, No, true,
        "The idempotency key cannot be read",
        "Send one key of 1 to 255 characters, as a quoted string.";
    ScopeMissing = "scope-missing", [400], 3, No, true,
        "Nothing says whose the idempotency key is",
        "A key belongs to whoever sends it, and this request lacks what names its sender.";
    BodyTooLarge = "body-too-large", [413], 3, No, true,
        "The body is too large for a request with an idempotency key",
        "Requests with a key are compared by their whole body, up to a size. Nothing was sent.";
    KeyReused = "key-reused", [422], 9, No, false,
        "The idempotency key belongs to a different request",
        "A request with this key came before, and was not the same. If this is a different \
         operation, send it with a key of its own.";
    InProgress = "in-progress", [409], 10, Later, false,
        "A request with this idempotency key is being worked on",
        "Come back later with the same key for its result.";
    ResponseTimeout = "response-timeout", [504], 4, Later, false,
        "The upstream is still at work on the request",
        "It was sent and has not been answered yet; the answer will be kept. Come back later with \
         the same key for it.";
    OutcomeUnknown = "outcome-unknown", [409, 502, 504], 2, Later, false,
        "What became of the first request is unknown",
        "It was sent, and no result is known. It may have taken effect. Find out before you send \
         it under another key.";
    ResultUnavailable = "result-unavailable", [409], 9, No, false,
        "The request was executed, and its answer is not kept any more",
        "The operation was answered with the status in original_status, which is all that is left \
         of the answer. It is not executed again.";
    KeyExpired = "key-expired", [409], 9, No, false,
        "The idempotency key is older than what is remembered",
        "There is no record of this key, and it is too old for that to mean that it was not used. \
         It may have been executed. Find out before you send it under another key.";
    StoreUnavailable = "store-unavailable", [503], 14, Now, false,
        "The store of idempotency records cannot be reached",
        "Nothing was sent now. An earlier request with this key may have been executed: repeat it \
         with the same key.";
    StoreFull = "store-full", [503], 14, Now, false,
        "The store of idempotency records is full",
        "Nothing was sent now. An earlier request with this key may have been executed: repeat it \
         with the same key.";
    NotExecuted = "not-executed", [503, 502], 14, Now, true,
        "The request was not executed",
        "It is proved that the upstream executed nothing of it. Repeat it, with this key or \
         another.";
    Quota = "quota", [429], 8, Later, false,
        "You have too many idempotency keys in use",
        "Nothing was sent now. Come back later with the same key.";
}

impl Code {
    /// The HTTP status that it has unless its cause asks for another one of
    /// [`Code::statuses`].
    #[must_use]
    pub fn status(self) -> u16 {
        self.statuses().first().copied().unwrap_or(500)
    }

    /// The code of this spelling.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// Whether the answer says after how long to come back.
    #[must_use]
    pub const fn asks_to_wait(self) -> bool {
        matches!(
            self,
            Self::InProgress
                | Self::ResponseTimeout
                | Self::StoreUnavailable
                | Self::StoreFull
                | Self::NotExecuted
                | Self::Quota
        )
    }

    /// The fragment of the code's place in a page of documentation, README's own headings among
    /// them.
    #[must_use]
    pub fn anchor(self) -> String {
        format!("idempotency-{}", self.as_str())
    }

    /// What names the problem: the code's place in `docs`, or a URN where no page is configured, so
    /// that nothing points to where nothing is.
    #[must_use]
    pub fn link(self, docs: Option<&str>) -> String {
        match docs {
            Some(docs) => format!("{docs}#{}", self.anchor()),
            None => format!("urn:outrigger:idempotency:{}", self.as_str()),
        }
    }
}

#[cfg(test)]
mod tests;
