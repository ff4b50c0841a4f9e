//! Rules of tiers.

use super::super::pattern::is_token;
use super::super::suggest::nearest;
use super::{At, Check, policy};
use crate::policy::priority::{MAX_TIERS, Settings};

pub(super) fn check(check: &mut Check<'_>, at: At<'_>, settings: &Settings) {
    let tiers = &settings.tiers;
    let path = format!("{at}.tiers");
    let whole = check.readable(&path);
    if tiers.is_empty() || tiers.len() > MAX_TIERS {
        let message = format!("has {} entries; it must have 1 to {MAX_TIERS}", tiers.len());
        check.problem(&path, message);
    }
    for (index, tier) in tiers.iter().enumerate().filter(|_| whole) {
        check.name(&format_args!("{path}[{index}]"), tier);
        if tiers.iter().take(index).any(|other| other.eq_ignore_ascii_case(tier)) {
            let message = format!("`{tier}` is in this list already; case makes no difference");
            check.problem(&format_args!("{path}[{index}]"), message);
        }
    }
    let from = &settings.from;
    if !is_token(&from.header) {
        let message = format!("`{}` cannot be the name of a header field", from.header);
        check.problem(&format_args!("{at}.from.header"), message);
    }
    known(check, &format_args!("{at}.from.otherwise"), &from.otherwise, tiers);
    if let Some(fairness) = &settings.fairness {
        policy::hash_on(check, &format_args!("{at}.fairness.key"), &fairness.key);
    }
}

/// Reports a tier that is none of these.
pub(super) fn known(check: &mut Check<'_>, at: At<'_>, name: &str, tiers: &[String]) {
    let known = tiers.iter().any(|tier| tier.eq_ignore_ascii_case(name.trim()));
    if !known && check.readable(&"priorities.tiers") {
        let meant = nearest(name, tiers.iter().map(String::as_str));
        check.problem_like(at, format!("there is no tier `{name}`"), meant);
    }
}
