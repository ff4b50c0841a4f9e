//! The choice itself, over what is precomputed of the endpoints and what one attempt sees of them.
//!
//! While all endpoints of equal weight are available, a choice looks at two of them, whatever their
//! number, and allocates nothing. With different weights a draw is a binary search.

use super::ring::{Ring, mix};
use super::{Policy, SEED, Settings};

/// How often two endpoints are drawn before all are looked at. With half of the endpoints
/// unavailable, eight draws miss all others once in 256 choices.
const DRAWS_MAX: u64 = 4;

/// The most places of a round-robin order, unless there are more endpoints than this. Weights are
/// made coarser when the order would be longer.
const ORDER_MAX: u64 = 65_536;

/// More than the error of the products that a bound is computed by, and less than the distance of
/// any bound to the whole number below it that could matter.
const ROUNDING: f64 = 1e-9;

/// What is known of an endpoint when the set of endpoints is read.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name, different from that of all others: what is hashed onto the ring.
    pub name: &'a str,
    /// Its share relative to the others; 0 counts as 1.
    pub weight: u32,
    /// Whether it is in the zone that is preferred.
    pub local: bool,
}

/// What one attempt sees of the endpoints, by their index in the list that the [`Plan`] was made
/// of.
pub trait Endpoints {
    /// Whether it may be chosen: neither ejected nor known to be unhealthy.
    fn available(&self, index: usize) -> bool;
    /// Whether this request was sent to it before, and should go to another one.
    fn tried(&self, index: usize) -> bool;
    /// The requests in flight to it.
    fn in_flight(&self, index: usize) -> usize;
    /// Its measured latency in nanoseconds, with `peak_ewma`; nothing if it never answered.
    fn cost(&self, index: usize) -> Option<f64>;
    /// Its share of its weight while it is in slow start: above 0, and 1 after it.
    fn ramp(&self, index: usize) -> f64;
}

/// What is drawn, counted or computed for one choice.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// A random number from `[0, 1)`.
    pub random: f64,
    /// With `round_robin`: a counter that all choices share, one more each time.
    pub turn: usize,
    /// With `ring_hash`: the [`super::hash`] of the key; without one the key is drawn.
    pub hash: Option<u64>,
}

/// What is precomputed of a set of endpoints.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    all: Pool,
    /// Those of the own zone, unless that is all or none.
    zone: Option<Pool>,
}

/// Endpoints that are chosen among.
#[derive(Clone, Debug, Default)]
struct Pool {
    /// The indexes of its members; what follows is by the place in here.
    members: Vec<usize>,
    /// For each member the sum of the weights up to and with its own; empty if all are equal.
    sums: Vec<u64>,
    weights: Vec<u32>,
    /// Indexes by turn, with `round_robin`.
    order: Vec<usize>,
    /// With `ring_hash`; gives places.
    ring: Option<Ring>,
}

/// One choice among the members of a pool.
struct Choice<'a, E> {
    pool: &'a Pool,
    endpoints: &'a E,
    settings: &'a Settings,
    chance: Chance,
    /// Whether those that were tried may be chosen.
    again: bool,
}

impl Plan {
    /// Prepares the choice among these endpoints by the policy of the settings.
    #[must_use]
    pub fn build(settings: &Settings, members: &[Member<'_>]) -> Self {
        let pool = |keep: &dyn Fn(&Member<'_>) -> bool| {
            let kept = members.iter().enumerate().filter(|(_, member)| keep(member));
            Pool::build(settings.policy, &kept.collect::<Vec<_>>())
        };
        let local = members.iter().filter(|member| member.local).count();
        let zone = (0 < local && local < members.len()).then(|| pool(&|member| member.local));
        Self { all: pool(&|_| true), zone }
    }

    /// Chooses an endpoint; nothing if none is available. The policy of the settings is to be the
    /// one that the plan was built with; with another, `round_robin` draws by weight and
    /// `ring_hash` takes the better of two, for want of their order and ring.
    #[must_use]
    pub fn choose(
        &self,
        settings: &Settings,
        endpoints: &impl Endpoints,
        chance: Chance,
    ) -> Option<usize> {
        let zone = self.zone.as_ref().filter(|zone| zone.half_available(endpoints));
        let pools = [zone, Some(&self.all)];
        let tiers = [false, true].into_iter().flat_map(|again| pools.map(|pool| (again, pool)));
        tiers
            .filter_map(|(again, pool)| Some((again, pool?)))
            .find_map(|(again, pool)| Choice { pool, endpoints, settings, chance, again }.take())
    }
}

impl Pool {
    fn build(policy: Policy, members: &[(usize, &Member<'_>)]) -> Self {
        let weights: Vec<u32> = members.iter().map(|(_, member)| member.weight.max(1)).collect();
        let indexes: Vec<usize> = members.iter().map(|(index, _)| *index).collect();
        let equal = weights.windows(2).all(|pair| pair.first() == pair.last());
        let add = |sum: &mut u64, weight: &u32| {
            *sum += u64::from(*weight);
            Some(*sum)
        };
        let named = || members.iter().map(|(_, member)| (member.name, member.weight));
        Self {
            sums: if equal { Vec::new() } else { weights.iter().scan(0, add).collect() },
            order: if policy == Policy::RoundRobin {
                order(&weights, &indexes)
            } else {
                Vec::new()
            },
            ring: (policy == Policy::RingHash).then(|| Ring::build(&named().collect::<Vec<_>>())),
            members: indexes,
            weights,
        }
    }

    /// Whether at least half of the members are available.
    fn half_available(&self, endpoints: &impl Endpoints) -> bool {
        let half = self.members.len().div_ceil(2);
        let available = self.members.iter().filter(|index| endpoints.available(**index));
        available.take(half).count() == half
    }

    /// Two different places, drawn by weight. There must be at least two.
    fn draw_two(&self, random: f64) -> (usize, usize) {
        let Some(total) = self.sums.last() else { return pick_two(random, self.members.len()) };
        let a = self.place(scale(random, *total));
        let weight = |place: usize| self.weights.get(place).copied().map_or(0, u64::from);
        let before = self.sums.get(a).map_or(0, |sum| sum - weight(a));
        // The second is drawn from what is left when the share of the first is cut out.
        let random = unit(mix(random.to_bits()));
        let drawn = scale(random, total - weight(a));
        (a, self.place(if drawn < before { drawn } else { drawn + weight(a) }))
    }

    fn place(&self, drawn: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= drawn)
    }
}

impl<E: Endpoints> Choice<'_, E> {
    fn take(&self) -> Option<usize> {
        match (self.settings.policy, &self.pool.ring) {
            (Policy::RoundRobin, _) => self.in_turn(),
            (Policy::RingHash, Some(ring)) => self.on_ring(ring),
            _ => self.of_two(),
        }
    }

    /// The better of two.
    fn of_two(&self) -> Option<usize> {
        let mut held = None;
        let tries = if self.pool.members.len() < 2 { 0 } else { DRAWS_MAX };
        for n in 0..tries {
            let (a, b) = self.pool.draw_two(self.random(n));
            for place in [a, b].into_iter().filter(|place| self.may(*place) && self.ramped(*place))
            {
                match held {
                    None => held = Some(place),
                    Some(other) if other != place => return self.better(other, place),
                    Some(_) => {}
                }
            }
        }
        // What the draws have left out is looked at, or the one that they met would be taken
        // without a comparison, however bad it is: with one of three unavailable that would be one
        // choice in forty.
        let (first, second) = match held {
            Some(held) => {
                let other = |place: usize| place != held && self.may(place) && self.ramped(place);
                (held, self.any(DRAWS_MAX, other))
            }
            None => {
                let first = self.any(DRAWS_MAX, |place| self.may(place))?;
                let other = |place: usize| place != first && self.may(place);
                (first, self.any(DRAWS_MAX + 1, other))
            }
        };
        match second {
            Some(second) => self.better(first, second),
            None => self.index(first),
        }
    }

    /// The one whose turn it is. When that one may not be chosen its turn is drawn among the
    /// others, instead of falling to the one that happens to come next.
    fn in_turn(&self) -> Option<usize> {
        let turn = self.chance.turn.checked_rem(self.pool.order.len());
        let place = turn.and_then(|turn| self.pool.order.get(turn).copied());
        let place = place.filter(|place| self.may(*place) && self.ramped(*place));
        place.or_else(|| self.any(0, |place| self.may(place))).and_then(|place| self.index(place))
    }

    /// The first on the ring within the bound; when all are above it, the first.
    ///
    /// V. Mirrokni, M. Thorup and M. Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016.
    fn on_ring(&self, ring: &Ring) -> Option<usize> {
        let hash = self.chance.hash.unwrap_or_else(|| mix(self.chance.random.to_bits()));
        // Nothing in flight is within every bound, so the sums are not needed.
        let idle = |place: &usize| self.may(*place) && self.in_flight(*place) == 0;
        if let Some(place) = ring.walk(hash).next().filter(idle) {
            return self.index(place);
        }
        let (mut weight, mut in_flight) = (0.0, 1.0);
        for (place, index) in self.pool.members.iter().enumerate() {
            if self.endpoints.available(*index) {
                weight += self.weight(place);
                in_flight += count(self.in_flight(place));
            }
        }
        // Below the mean itself the bound could not hold for all.
        let share = self.settings.bound.get().max(1.0) * in_flight / weight;
        // A bound that is a whole number must not become the next one by the error of a product.
        let most = |place: usize| (share * self.weight(place) - ROUNDING).ceil();
        let within = |place: usize| count(self.in_flight(place)) < most(place);
        let mut first = None;
        for place in ring.walk(hash).filter(|place| self.may(*place)) {
            if within(place) {
                return self.index(place);
            }
            first.get_or_insert(place);
        }
        first.and_then(|place| self.index(place))
    }

    /// One of those that `may` be chosen, drawn by weight. Looks at all.
    fn any(&self, n: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let places = || (0..self.pool.members.len()).filter(|place| may(*place));
        let total: f64 = places().map(|place| self.weight(place)).sum();
        let mut left = self.random(n) * total;
        let mut last = None;
        for place in places() {
            left -= self.weight(place);
            last = Some(place);
            if left < 0.0 {
                break;
            }
        }
        last
    }

    fn better(&self, a: usize, b: usize) -> Option<usize> {
        self.index(if least(self.load(a), self.load(b)) { a } else { b })
    }

    fn load(&self, place: usize) -> f64 {
        let weight = self.pool.weights.get(place).copied().unwrap_or(1);
        let in_flight = self.in_flight(place);
        match self.settings.policy {
            Policy::PeakEwma => {
                let cost = self.index(place).and_then(|index| self.endpoints.cost(index));
                load(self.settings, cost, in_flight, weight)
            }
            _ => count(in_flight) / f64::from(weight),
        }
    }

    fn index(&self, place: usize) -> Option<usize> {
        self.pool.members.get(place).copied()
    }

    /// Whether it may be chosen. Some may change while a choice is taken; it then fails later.
    fn may(&self, place: usize) -> bool {
        self.index(place).is_some_and(|index| {
            self.endpoints.available(index) && (self.again || !self.endpoints.tried(index))
        })
    }

    /// Whether slow start lets it take part. The answer is the same throughout one choice, so that
    /// drawing it several times does not add up.
    fn ramped(&self, place: usize) -> bool {
        let ramp = self.index(place).map_or(1.0, |index| self.endpoints.ramp(index));
        ramp >= 1.0 || unit(mix(!self.chance.random.to_bits() ^ mix(place as u64))) < ramp
    }

    fn in_flight(&self, place: usize) -> usize {
        self.index(place).map_or(0, |index| self.endpoints.in_flight(index))
    }

    /// The weight as slow start leaves it; always above zero.
    fn weight(&self, place: usize) -> f64 {
        let ramp = self.index(place).map_or(1.0, |index| self.endpoints.ramp(index));
        self.pool.weights.get(place).copied().map_or(1.0, f64::from) * ramp.clamp(0.001, 1.0)
    }

    /// The n-th random number of this choice, all from the one that was given.
    fn random(&self, n: u64) -> f64 {
        match n {
            0 => self.chance.random,
            n => unit(mix(self.chance.random.to_bits().wrapping_add(mix(n)))),
        }
    }
}

/// The load of an endpoint by `peak_ewma`, in nanoseconds: `cost * (in_flight / weight + 1)`.
///
/// Without a cost it is nothing while nothing is in flight, so that the endpoint gets the request
/// that measures it. While that one is under way it counts as a failure would, and at least as
/// [`SEED`]: it may be one that hangs, and then must not look better than one that fails at once.
#[must_use]
pub fn load(settings: &Settings, cost: Option<f64>, in_flight: usize, weight: u32) -> f64 {
    let pending = count(in_flight) / f64::from(weight.max(1));
    match cost {
        None if in_flight == 0 => 0.0,
        None => {
            let unproved = settings.failure_penalty.get().max(SEED);
            unproved.as_secs_f64() * 1e9 * (pending + 1.0)
        }
        Some(cost) => cost * (pending + 1.0),
    }
}

/// Two different numbers below `n` from one random number of `[0, 1)`, all pairs being equally
/// likely. Both are 0 if `n` is below 2.
#[must_use]
pub fn pick_two(random: f64, n: usize) -> (usize, usize) {
    if n < 2 {
        return (0, 0);
    }
    let n = n as u64;
    let pair = scale(random, n * (n - 1));
    let (a, b) = (pair / (n - 1), pair % (n - 1));
    let b = if b < a { b } else { b + 1 };
    (usize::try_from(a).unwrap_or(0), usize::try_from(b).unwrap_or(0))
}

/// Whether the first of two loads is the one to take: it is not above the second.
#[must_use]
pub fn least(first: f64, second: f64) -> bool {
    first <= second
}

/// Places in an order where each stands as often as its weight, evenly spread: the k-th of a weight
/// of w stands at `(k + 1/2) / w` of the way.
fn order(weights: &[u32], indexes: &[usize]) -> Vec<usize> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, *weight)).max(1);
    let total: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    let coarser = |weight: u64| match total {
        0..=ORDER_MAX => weight,
        _ => (weight * ORDER_MAX / total).max(1),
    };
    let mut order = Vec::new();
    for (place, weight) in weights.iter().take(indexes.len()).enumerate() {
        let weight = coarser(u64::from(weight / divisor));
        let at = |k: u64| (2 * k + 1) * ORDER_SCALE / (2 * weight);
        order.extend((0..weight).map(|k| (at(k), place)));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}

/// The length of the way along which an order is spread; fine enough for [`ORDER_MAX`] places, and
/// small enough to be multiplied by twice that.
const ORDER_SCALE: u64 = 1 << 40;

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A whole number below `n` from a random number of `[0, 1)`.
fn scale(random: f64, n: u64) -> u64 {
    ((random * n as f64) as u64).min(n.saturating_sub(1))
}

/// A number of `[0, 1)` from the high bits of a random word.
fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1_u64 << 53) as f64
}

/// As a float; exact below 2^53, which no process has in flight.
fn count(number: usize) -> f64 {
    number as f64
}
