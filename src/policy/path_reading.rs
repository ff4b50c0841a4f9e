//! How else a path can be read: by recipients that decode escapes, once or twice, that drop matrix
//! parameters, merge slashes, take a backslash for a slash, or resolve dot segments.
//!
//! A request goes by the path as it came. What a server behind makes of `/public/..%2Fadmin`,
//! `//admin` or `/admin;x=1` is its own affair, and differs. Whoever wants to be sure that a route
//! is the right one for the request asks for all readings, and looks whether the route is the same
//! for each. Letter case is not among them: servers that ignore it are named by their operators.

/// The longest path whose readings are made; there are some hundred of them at most.
pub const LONGEST: usize = 4096;

/// Why a path is not to be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has an escaped zero byte, at which some recipients end it.
    Zero,
    /// It has more than one reading and is longer than [`LONGEST`].
    TooLong,
}

impl Fault {
    /// A sentence for people.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Zero => "The path has a zero byte",
            Self::TooLong => "The path is too long to be looked at in every way it can be read",
        }
    }
}

/// The readings of a path other than the path itself; none, and nothing is allocated, for one that
/// everybody reads alike.
///
/// # Errors
/// When no recipient should see the path.
pub fn readings(path: &str) -> Result<Vec<String>, Fault> {
    if is_plain(path) {
        return Ok(Vec::new());
    }
    if path.len() > LONGEST {
        return Err(Fault::TooLong);
    }
    let bare = |way: &[u8]| without_parameters(way);
    let starts = spread(vec![path.as_bytes().to_vec()], &[&bare]);
    let mut ways = spread(
        starts,
        &[&|way| decoded(way, is_unreserved), &|way| decoded(way, |_| true), &|way| {
            decoded(&decoded(way, |_| true), |_| true)
        }],
    );
    if ways.iter().any(|way| way.contains(&0)) {
        return Err(Fault::Zero);
    }
    // A backslash can be taken for a slash before parameters are dropped, and after.
    for step in [&slashed, &bare, &slashed] as [Step<'_>; 3] {
        ways = spread(ways, &[step]);
    }
    ways = spread(
        ways,
        &[&merged, &resolved, &|way| resolved(&merged(way)), &|way| merged(&resolved(way))],
    );
    let mut texts: Vec<String> =
        ways.iter().map(|way| String::from_utf8_lossy(way).into_owned()).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.retain(|text| text != path);
    Ok(texts)
}

/// What a recipient may do to a path, or not.
type Step<'s> = &'s dyn Fn(&[u8]) -> Vec<u8>;

/// The ways to read a path so far, and what each of the steps makes of each.
fn spread(ways: Vec<Vec<u8>>, steps: &[Step<'_>]) -> Vec<Vec<u8>> {
    let mut all = ways.clone();
    for way in &ways {
        for step in steps {
            let next = step(way);
            if !all.contains(&next) {
                all.push(next);
            }
        }
    }
    all
}

/// Whether a path has one reading: no escape, backslash or parameter, no empty or dotted segment.
fn is_plain(path: &str) -> bool {
    let mut before = b' ';
    path.bytes().all(|byte| {
        let after_slash = std::mem::replace(&mut before, byte) == b'/';
        let special = matches!(byte, b'%' | b'\\' | b';');
        !special && (!after_slash || !matches!(byte, b'/' | b'.'))
    })
}

fn slashed(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// The path with the escapes decoded of bytes that are wanted. Where an ASCII character is encoded
/// in two bytes, against UTF-8 (RFC 3629, 3), it is what careless decoders take it for.
fn decoded(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match escaped.filter(|byte| wanted(*byte)) {
            Some(byte) => {
                match out.last() {
                    Some(0xc0 | 0xc1) if byte & 0xc0 == 0x80 => {
                        let lead = out.pop().unwrap_or_default();
                        out.push((lead & 1) << 6 | (byte & 0x3f));
                    }
                    _ => out.push(byte),
                }
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Characters that mean the same escaped and not (RFC 3986, 2.3).
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Each segment up to its first semicolon (RFC 3986, 3.3).
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let bare = |segment: &[u8]| -> Vec<u8> {
        segment.iter().copied().take_while(|byte| *byte != b';').collect()
    };
    let segments: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(bare).collect();
    segments.join(&b'/')
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|next, before| *next == b'/' && *before == b'/');
    out
}

/// Without dot segments (RFC 3986, 5.2.4).
fn resolved(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop();
                }
                if is_last {
                    kept.push(b"");
                }
            }
            segment => kept.push(segment),
        }
    }
    [b"/".as_slice(), &kept.join(&b'/')].concat()
}

#[cfg(test)]
mod tests;
