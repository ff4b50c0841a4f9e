//! How important a request is: what the file says of tiers, ready to be asked.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::policy::load_balancing::HashOn;
use crate::policy::priority::Settings;

/// The tiers, and how a request says which is its own.
#[derive(Clone, Debug)]
pub struct Importance {
    settings: Settings,
    header: HeaderName,
    otherwise: usize,
}

/// The tier that a route gives to all its requests.
#[derive(Clone, Debug)]
pub struct Fixed {
    tier: usize,
    /// Its name, which the upstream is told.
    name: HeaderValue,
}

impl Importance {
    /// The tiers of a file.
    ///
    /// # Errors
    /// What cannot be the name of a header field.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let header = HeaderName::from_bytes(settings.from.header.as_bytes());
        let header = header.map_err(|_| format!("`{}` is not a name", settings.from.header))?;
        Ok(Self { otherwise: settings.tier_of(None), settings: settings.clone(), header })
    }

    /// How many tiers there are.
    #[must_use]
    pub const fn tiers(&self) -> usize {
        self.settings.tiers.len()
    }

    /// The name of a tier, 0 being the highest.
    #[must_use]
    pub fn name(&self, tier: usize) -> Option<&str> {
        self.settings.tiers.get(tier).map(String::as_str)
    }

    /// The field that names the tier of a request.
    #[must_use]
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What tells one caller from another, if callers share a tier fairly.
    #[must_use]
    pub fn caller(&self) -> Option<&HashOn> {
        self.settings.fairness.as_ref().map(|fairness| &fairness.key)
    }

    /// The tier of a request with these header fields.
    #[must_use]
    pub fn tier_of(&self, headers: &HeaderMap) -> usize {
        match headers.get(&self.header).and_then(|value| value.to_str().ok()) {
            Some(said) => self.settings.tier_of(Some(said)),
            None => self.otherwise,
        }
    }

    /// The tier of a request that says nothing.
    #[must_use]
    pub const fn otherwise(&self) -> usize {
        self.otherwise
    }

    /// The tier of this name for all requests of a route.
    #[must_use]
    pub fn fixed(&self, name: &str) -> Option<Fixed> {
        let tier = self.settings.tier(name)?;
        let name = HeaderValue::from_str(self.name(tier)?).ok()?;
        Some(Fixed { tier, name })
    }
}

impl Fixed {
    /// The tier.
    #[must_use]
    pub const fn tier(&self) -> usize {
        self.tier
    }

    /// Its name as the upstream is told it.
    #[must_use]
    pub const fn name(&self) -> &HeaderValue {
        &self.name
    }
}
