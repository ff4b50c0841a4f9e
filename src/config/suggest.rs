//! The name that was probably meant.

/// Names longer than this are not compared: nothing in the file's vocabulary is as long, and the
/// comparison costs the product of both lengths.
const MAX_LENGTH: usize = 64;

/// The candidate that is nearest to what was written, if it is near enough to be a slip of the
/// fingers: at most a third of the letters differ, by the optimal string alignment distance
/// (Damerau and Levenshtein, with swaps of neighbours), or one is the other with something in front
/// or behind.
#[must_use]
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = normal(written);
    if plain.is_empty() || plain.len() > MAX_LENGTH {
        return None;
    }
    let limit = plain.len().div_ceil(3).min(3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = normal(candidate);
        if other.len() > MAX_LENGTH {
            continue;
        }
        let mut cost = distance(&plain, &other);
        if cost > limit && contains_whole(&plain, &other) {
            cost = limit;
        }
        if cost <= limit && best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, candidate));
        }
    }
    best.map(|(_, name)| name)
}

/// Letters and digits alone, so that `maxAttempts` and `max-attempts` are near to `max_attempts`.
fn normal(name: &str) -> Vec<char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether the shorter, of four letters or more, is a part of the longer.
fn contains_whole(a: &[char], b: &[char]) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short.len() >= 4 && long.windows(short.len()).any(|part| part == short)
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, j) + usize::from(x != y);
            let mut cost = replaced.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
