//! The consistent hash: each endpoint has many points on a ring, and a key belongs to the first
//! point at or after its hash. When an endpoint comes or goes, only the keys at its own points
//! move.
//!
//! D. Karger et al., "Consistent Hashing and Random Trees", 1997. The points follow from the names
//! of the endpoints alone, so every process with the same endpoints sends a key to the same one,
//! whatever the order in which they are listed.
//!
//! What is absent: the bound on the load, which is kept where the choice is taken.

/// The points of an endpoint for each unit of its weight: with 100, the shares of equal endpoints
/// differ from each other by some 10 %.
const POINTS_PER_WEIGHT: u64 = 100;

/// The most points of a ring, of 16 bytes each, unless there are more endpoints than this.
pub const POINTS_MAX: u64 = 65_536;

/// A ring of points.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// A place on the ring and the index of the endpoint there, in ascending order.
    points: Vec<(u64, u32)>,
    endpoints: usize,
}

/// The endpoints in the order in which a key prefers them; each comes once.
#[derive(Clone, Debug)]
pub struct Walk<'r> {
    ring: &'r Ring,
    /// The next point to look at, and how many are left.
    at: usize,
    left: usize,
    /// Which have come. Empty until the second one is asked for, since most walks end at the first.
    seen: Vec<bool>,
    first: Option<usize>,
}

impl Ring {
    /// A ring of endpoints by their names and weights (0 counts as 1). Names must differ.
    #[must_use]
    pub fn build(endpoints: &[(&str, u32)]) -> Self {
        let units = endpoints.iter().map(|(_, weight)| u64::from(*weight).max(1)).sum::<u64>();
        // Halving, instead of dividing by what just fits, keeps the points of all endpoints as they
        // are when one comes or goes, but for the rare case that another halving is needed.
        let mut halvings = 0;
        while (units * POINTS_PER_WEIGHT) >> halvings > POINTS_MAX {
            halvings += 1;
        }
        let mut points = Vec::new();
        for (index, (name, weight)) in (0_u32..).zip(endpoints) {
            let start = hash(name.as_bytes());
            let count = (u64::from(*weight).max(1) * POINTS_PER_WEIGHT) >> halvings;
            points.extend((0..count.max(1)).map(|n| (mix(start ^ mix(n)), index)));
        }
        let name = |index: u32| endpoints.get(index as usize).map(|(name, _)| *name);
        points.sort_unstable_by_key(|(place, index)| (*place, name(*index)));
        Self { points, endpoints: endpoints.len() }
    }

    /// The number of its points.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// The endpoints, by their index, in the order in which a key of this hash prefers them.
    #[must_use]
    pub fn walk(&self, hash: u64) -> Walk<'_> {
        let at = self.points.partition_point(|(place, _)| *place < hash);
        Walk { ring: self, at, left: self.points.len(), seen: Vec::new(), first: None }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.left > 0 {
            self.left -= 1;
            if self.at >= self.ring.points.len() {
                self.at = 0;
            }
            let (_, index) = self.ring.points.get(self.at)?;
            self.at += 1;
            let index = *index as usize;
            let Some(first) = self.first else {
                self.first = Some(index);
                return Some(index);
            };
            if self.seen.is_empty() {
                self.seen.resize(self.ring.endpoints, false);
                *self.seen.get_mut(first)? = true;
            }
            let seen = self.seen.get_mut(index)?;
            if !std::mem::replace(seen, true) {
                return Some(index);
            }
        }
        None
    }
}

/// The hash of a key or a name: FNV-1a, then `mix`, for FNV leaves the high bits of short keys
/// nearly the same. It is the same in every process and version.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Spreads the bits of a number over all of it: the finaliser of `SplitMix64` (Steele, Lea and
/// Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
