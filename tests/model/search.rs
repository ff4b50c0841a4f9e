//! Every reachable state of a model, the nearest first, so that the first history that breaks a
//! property is a shortest one.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;

use foldhash::fast::FixedState;

/// What can be searched.
pub(crate) trait Model {
    type State: Copy + Eq + Hash + Debug;
    /// What leads from one state to the next.
    type Step: Copy + Display;

    fn initial(&self) -> Self::State;

    /// All that may happen next, with what it is called in [`Report::seen`] where it counts.
    fn next(&self, state: &Self::State, found: &mut Vec<Next<Self>>);
}

/// One thing that may happen.
pub(crate) struct Next<M: Model + ?Sized> {
    pub(crate) step: M::Step,
    pub(crate) state: M::State,
    /// The transition that it is an instance of.
    pub(crate) seen: Option<&'static str>,
    /// The property that it breaks.
    pub(crate) broken: Option<&'static str>,
}

/// What the search has found.
pub(crate) struct Report {
    pub(crate) states: usize,
    /// How often each transition was taken.
    pub(crate) seen: BTreeMap<&'static str, usize>,
    /// The property that does not hold, and how to get there.
    pub(crate) broken: Option<(&'static str, String)>,
}

/// More states than any model here has: one that is larger is not finished by waiting.
const STATES_MAX: usize = 1_000_000;

pub(crate) fn search<M: Model>(model: &M) -> Report {
    let initial = model.initial();
    let mut known = HashSet::with_hasher(FixedState::default());
    known.insert(initial);
    // Each state with the place of the one before it.
    let mut states = vec![(initial, 0)];
    let mut seen = BTreeMap::new();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((state, _)) = states.get(at).copied() {
        model.next(&state, &mut found);
        for next in found.drain(..) {
            if let Some(name) = next.seen {
                *seen.entry(name).or_default() += 1;
            }
            if let Some(property) = next.broken {
                let trace = trace(model, &states, at, &next);
                return Report { states: states.len(), seen, broken: Some((property, trace)) };
            }
            if known.insert(next.state) {
                states.push((next.state, at));
            }
        }
        assert!(states.len() <= STATES_MAX, "the model has more than {STATES_MAX} states");
        at += 1;
    }
    Report { states: states.len(), seen, broken: None }
}

/// The steps that led to a broken property.
fn trace<M: Model>(
    model: &M,
    states: &[(M::State, usize)],
    last: usize,
    broken: &Next<M>,
) -> String {
    let mut steps = vec![broken.step.to_string()];
    let mut at = last;
    while at != 0 {
        let (state, before) = states[at];
        let mut found = Vec::new();
        model.next(&states[before].0, &mut found);
        let next = found.into_iter().find(|next| next.state == state);
        steps.push(next.expect("it led there before").step.to_string());
        at = before;
    }
    steps.reverse();
    let lines = (1..).zip(&steps).map(|(at, step)| format!("{at:>3}. {step}\n"));
    format!("{}leads to {:?}", lines.collect::<String>(), broken.state)
}
