//! What a Device Provisioning Service is started with.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::iothub::{IotHub, SharedAccessPolicy};
use crate::listen::Listen;
use crate::{Authority, Clock, EmulatorError, wall_clock};

/// An emulated Device Provisioning Service.
#[derive(Clone)]
pub struct DpsConfig {
    /// Where it listens, and its name. Published device clients have the fixed ports of
    /// [`Listen`]'s default.
    pub listen: Listen,
    /// Who signs its certificate, and whom it trusts when it calls a webhook over TLS.
    pub authority: Arc<Authority>,
    /// What devices call the service by.
    pub id_scope: String,
    /// Who may use the service API. Permissions are not told apart.
    pub policies: Vec<SharedAccessPolicy>,
    /// The hubs it can assign devices to.
    pub linked_hubs: Vec<LinkedHub>,
    /// How it chooses when an enrolment does not say.
    pub default_allocation: Allocation,
    /// What it tells devices to wait between polls, whole seconds, at least 1. Default 3, as the
    /// service.
    pub retry_after: Duration,
    /// How it writes the name of a device's present hub when it calls a webhook.
    pub webhook_spelling: WebhookSpelling,
    /// Longest wait for a webhook. The service's own is not published. Default 5 s.
    pub webhook_timeout: Duration,
    /// Registrations and, separately, polls of a minute. Default 1,000, the service's.
    pub per_minute_max: u64,
    /// The time.
    pub clock: Clock,
}

impl DpsConfig {
    /// A service of the default kind without hubs.
    #[must_use]
    pub fn new(listen: Listen, authority: Arc<Authority>, id_scope: &str) -> Self {
        Self {
            listen,
            authority,
            id_scope: id_scope.to_owned(),
            policies: vec![SharedAccessPolicy {
                name: "provisioningserviceowner".to_owned(),
                ..SharedAccessPolicy::owner()
            }],
            linked_hubs: Vec::new(),
            default_allocation: Allocation::Hashed,
            retry_after: Duration::from_secs(3),
            webhook_spelling: WebhookSpelling::IotHub,
            webhook_timeout: Duration::from_secs(5),
            per_minute_max: 1_000,
            clock: wall_clock(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), EmulatorError> {
        let bad = |text: &str| Err(EmulatorError::Config(text.to_owned()));
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.id_scope.is_empty() || !self.id_scope.chars().all(good) {
            return bad("id_scope must be letters, digits and '-'");
        }
        if self.linked_hubs.len() > HUBS_MAX {
            return bad("linked_hubs: at most 50");
        }
        if self
            .linked_hubs
            .iter()
            .any(|hub| !(1..=1_000).contains(&hub.weight))
        {
            return bad("linked_hubs: weight must be 1 to 1,000");
        }
        if self.default_allocation == Allocation::Custom {
            return bad("default_allocation: custom is for enrolments only");
        }
        if self.retry_after < Duration::from_secs(1) || self.webhook_timeout.is_zero() {
            return bad("retry_after must be at least 1 s, webhook_timeout more than none");
        }
        Ok(())
    }
}

/// Linked hubs of one service (DPS quotas).
const HUBS_MAX: usize = 50;

impl std::fmt::Debug for DpsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DpsConfig")
            .field("listen", &self.listen)
            .field("id_scope", &self.id_scope)
            .finish_non_exhaustive()
    }
}

/// The two spellings of one name in the published contract of the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookSpelling {
    /// `currentIotHubHostName`
    IotHub,
    /// `currentIoTHubHostName`
    IoTHub,
}

/// A hub that devices can be assigned to.
#[derive(Debug, Clone)]
pub struct LinkedHub {
    /// The hub.
    pub hub: IotHub,
    /// Its share under [`Allocation::Hashed`], 1 to 1,000.
    pub weight: u32,
    /// Stands in for the distance to the device: [`Allocation::GeoLatency`] takes the smallest.
    pub latency_ms: u32,
    /// Whether it takes new devices when an enrolment names no hubs.
    pub allocates: bool,
}

impl LinkedHub {
    /// With weight 1.
    #[must_use]
    pub fn new(hub: IotHub) -> Self {
        Self {
            hub,
            weight: 1,
            latency_ms: 0,
            allocates: true,
        }
    }
}

/// How a hub is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Spread by the registration id, in proportion to the hubs' weights.
    Hashed,
    /// The hub nearest to the device; here, the one of the smallest [`LinkedHub::latency_ms`].
    GeoLatency,
    /// The one hub of the enrolment.
    Static,
    /// A webhook says.
    Custom,
}

impl Allocation {
    /// Reads `allocationPolicy`.
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        let known = [
            ("hashed", Self::Hashed),
            ("geolatency", Self::GeoLatency),
            ("static", Self::Static),
            ("custom", Self::Custom),
        ];
        let mut found = known
            .into_iter()
            .filter(|(name, _)| text.eq_ignore_ascii_case(name));
        found.next().map(|(_, allocation)| allocation)
    }
}
