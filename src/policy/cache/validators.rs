//! Whether a 304 speaks of a kept answer (RFC 9111, 4.3.4; RFC 9110, 8.8).
//!
//! The client's condition made the upstream say 304, so it is the client's copy that is the present
//! one. What is kept is the same only if its validator is.

/// The validators of an answer, as they stand in its head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validators<'a> {
    /// `ETag`.
    pub etag: Option<&'a [u8]>,
    /// `Last-Modified`.
    pub modified: Option<&'a [u8]>,
}

impl Validators<'_> {
    /// Whether an answer with these says that one with those is the present one. A strong tag is
    /// the same only as a strong one; a weak tag, and a date, may be that of an answer which
    /// differs in what nobody cares about; without any, both have none.
    #[must_use]
    pub fn confirm(&self, kept: &Self) -> bool {
        match (self.etag, self.modified) {
            (Some(tag), _) if is_strong(tag) => kept.etag == Some(tag),
            (Some(tag), _) => kept.etag.is_some_and(|known| opaque(known) == opaque(tag)),
            (None, Some(date)) => kept.modified == Some(date),
            (None, None) => kept.etag.is_none() && kept.modified.is_none(),
        }
    }
}

fn is_strong(tag: &[u8]) -> bool {
    !tag.starts_with(b"W/")
}

/// A tag without its weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}
