//! The service itself: its enrolments and registrations under one lock, and how a device gets a hub.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use super::allocation::{Candidate, hashed, nearest};
use super::config::{Allocation, DpsConfig, LinkedHub, WebhookSpelling};
use super::enrollment::{Enrollment, Kind, Reprovision, check_id};
use super::error::DpsError;
use super::registration::{Registration, Status};
use super::webhook;
use crate::EmulatorError;
use crate::faults::ServiceFaults;
use crate::iothub::{Authentication, Change, Provision};
use crate::sas::SasToken;
use crate::throttle::Bucket;

/// Individual enrolments, and registrations, of one service (DPS quotas).
const RECORDS_MAX: usize = 1_000_000;
/// Enrolment groups with symmetric keys (DPS quotas).
const GROUPS_MAX: usize = 100;

/// What all servers and handles of a service share.
pub(crate) struct DpsCore {
    pub(super) host: String,
    pub(super) config: DpsConfig,
    tls: TlsConnector,
    state: Mutex<State>,
    pub(super) faults: ServiceFaults,
    requests: AtomicU64,
}

impl std::fmt::Debug for DpsCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DpsCore")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) enrollments: BTreeMap<(Kind, String), Enrollment>,
    pub(super) registrations: BTreeMap<String, Registration>,
    registers: Bucket,
    polls: Bucket,
}

/// What a webhook or a policy decided.
struct Decision {
    host: String,
    twin: Change,
    payload: Option<Value>,
}

impl DpsCore {
    pub(super) fn new(config: DpsConfig) -> Result<Self, EmulatorError> {
        let now_us = (config.clock)();
        let state = State {
            enrollments: BTreeMap::new(),
            registrations: BTreeMap::new(),
            registers: Bucket::per_minute(config.per_minute_max, now_us),
            polls: Bucket::per_minute(config.per_minute_max, now_us),
        };
        Ok(Self {
            host: config.listen.host(),
            tls: config.authority.connector()?,
            state: Mutex::new(state),
            faults: ServiceFaults::default(),
            requests: AtomicU64::new(0),
            config,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now_us(&self) -> i64 {
        (self.config.clock)()
    }

    pub(super) fn tracking_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{number:032x}")
    }

    pub(super) fn retry_after_s(&self) -> u64 {
        self.config.retry_after.as_secs()
    }

    pub(super) fn throttle_register(&self) -> Result<(), DpsError> {
        let now_us = self.now_us();
        self.state()
            .registers
            .take(now_us)
            .map_err(DpsError::throttled)
    }

    pub(super) fn throttle_poll(&self) -> Result<(), DpsError> {
        let now_us = self.now_us();
        self.state().polls.take(now_us).map_err(DpsError::throttled)
    }

    /// Whether a token opens the service API.
    pub(super) fn authorize_service(&self, token: &str) -> Result<(), DpsError> {
        let token = SasToken::parse(token).ok_or_else(DpsError::unauthorized)?;
        let resource = token.resource();
        let host = resource.split([':', '/']).next().unwrap_or_default();
        let policies = self.config.policies.iter();
        let mut named = policies.filter(|policy| Some(policy.name.as_str()) == token.policy());
        let signed = named.any(|policy| token.is_signed_by(&policy.key));
        let open = host.eq_ignore_ascii_case(&self.host) && !token.is_expired(self.now_us());
        match open && signed {
            true => Ok(()),
            false => Err(DpsError::unauthorized()),
        }
    }

    /// The enrolment that a device's token proves: its own, else a group whose key made its key.
    /// A device that has an enrolment of its own is never taken for one of a group.
    pub(super) fn authorize_device(
        &self,
        scope: &str,
        id: &str,
        token: &str,
    ) -> Result<Enrollment, DpsError> {
        check_id(id)?;
        let token = SasToken::parse(token).ok_or_else(DpsError::unauthorized)?;
        let wanted = format!("{scope}/registrations/{id}");
        let known = scope == self.config.id_scope;
        if !known || token.resource() != wanted || token.is_expired(self.now_us()) {
            return Err(DpsError::unauthorized());
        }
        let proves = |enrollment: &Enrollment| {
            let keys = enrollment.device_keys(id);
            keys.is_some_and(|(a, b)| token.is_signed_by(&a) || token.is_signed_by(&b))
        };
        let state = self.state();
        let own = state
            .enrollments
            .get(&(Kind::Individual, id.to_ascii_lowercase()));
        let found = match own {
            Some(own) => Some(own).filter(|own| proves(own)),
            None => {
                let mut groups = state.enrollments.values();
                groups.find(|e| e.kind == Kind::Group && proves(e))
            }
        };
        found.cloned().ok_or_else(DpsError::unauthorized)
    }

    /// Begins a registration, or gives the one that is under way: its operation's id.
    pub(super) fn register(
        self: &Arc<Self>,
        id: &str,
        enrollment: Enrollment,
        payload: Option<Value>,
    ) -> Result<String, DpsError> {
        let key = id.to_ascii_lowercase();
        let now_us = self.now_us();
        let mut state = self.state();
        let before = state.registrations.get(&key).cloned();
        if let Some(running) = before.as_ref().filter(|r| r.status == Status::Assigning) {
            return Ok(running.operation.clone());
        }
        if before.is_none() && state.registrations.len() >= RECORDS_MAX {
            return Err(DpsError::full("registrations"));
        }
        let version = before.as_ref().map_or(0, |r| r.version) + 1;
        let operation = format!("5.{now_us:016x}.{}", self.tracking_id());
        let disabled = enrollment.disabled;
        let registration = Registration {
            id: id.to_owned(),
            group: (enrollment.kind == Kind::Group).then(|| enrollment.id.clone()),
            hub: before.as_ref().and_then(|r| r.hub.clone()),
            device_id: enrollment.device_id(id),
            status: if disabled {
                Status::Disabled
            } else {
                Status::Assigning
            },
            substatus: "initialAssignment",
            operation: operation.clone(),
            payload: None,
            error: None,
            version,
            created_at_us: before.as_ref().map_or(now_us, |r| r.created_at_us),
            updated_at_us: now_us,
        };
        state.registrations.insert(key, registration.clone());
        drop(state);
        if !disabled {
            let core = Arc::clone(self);
            let _detached = tokio::spawn(async move {
                let done = core.assign(&enrollment, registration, payload).await;
                core.finish(done);
            });
        }
        Ok(operation)
    }

    /// Puts a finished registration in place, unless it was deleted meanwhile.
    fn finish(&self, mut done: Registration) {
        done.updated_at_us = self.now_us();
        done.version += 1;
        let mut state = self.state();
        let place = state.registrations.get_mut(&done.id.to_ascii_lowercase());
        if let Some(place) = place.filter(|place| place.operation == done.operation) {
            *place = done;
        }
    }

    /// Chooses a hub and puts the device there.
    async fn assign(
        &self,
        enrollment: &Enrollment,
        mut registration: Registration,
        payload: Option<Value>,
    ) -> Registration {
        let decided = self.decide(enrollment, &registration, payload).await;
        let done = decided.and_then(|decision| {
            let substatus = self.place(enrollment, &registration, &decision)?;
            Ok((decision, substatus))
        });
        match done {
            Ok((decision, substatus)) => {
                registration.hub = Some(decision.host);
                registration.payload = decision.payload;
                registration.substatus = substatus;
                registration.status = Status::Assigned;
            }
            Err(error) => {
                tracing::debug!(id = %registration.id, code = error.code, "a registration failed");
                registration.error = Some(error);
                registration.status = Status::Failed;
            }
        }
        registration
    }

    async fn decide(
        &self,
        enrollment: &Enrollment,
        registration: &Registration,
        payload: Option<Value>,
    ) -> Result<Decision, DpsError> {
        let allocation = enrollment
            .allocation
            .unwrap_or(self.config.default_allocation);
        let candidates = self.candidates(enrollment, registration, allocation)?;
        let chosen = match allocation {
            Allocation::Static => candidates.first(),
            Allocation::Hashed => hashed(&candidates, &registration.id),
            Allocation::GeoLatency => nearest(&candidates),
            Allocation::Custom => {
                return self
                    .ask(enrollment, registration, &candidates, payload)
                    .await;
            }
        };
        let chosen = chosen.ok_or_else(|| DpsError::argument("no hub can be chosen"))?;
        Ok(Decision {
            host: chosen.host.clone(),
            twin: enrollment.twin.clone(),
            payload: None,
        })
    }

    /// The hubs to choose from: the present one when it must not change, else the enrolment's, else
    /// all that take devices.
    fn candidates(
        &self,
        enrollment: &Enrollment,
        registration: &Registration,
        allocation: Allocation,
    ) -> Result<Vec<Candidate>, DpsError> {
        let candidate = |linked: &LinkedHub| Candidate {
            host: linked.hub.host_name().to_owned(),
            weight: linked.weight,
            latency_ms: linked.latency_ms,
        };
        let named = |host: &str| {
            let linked = self.linked(host).map(candidate);
            linked.ok_or_else(|| DpsError::argument(format!("hub {host:?} is not linked")))
        };
        if let Some(current) = &registration.hub
            && enrollment.reprovision == Reprovision::Never
        {
            return Ok(vec![named(current)?]);
        }
        if !enrollment.hubs.is_empty() {
            return enrollment.hubs.iter().map(|host| named(host)).collect();
        }
        let linked = self.config.linked_hubs.iter();
        let taking = linked.filter(|hub| hub.allocates || allocation == Allocation::Custom);
        Ok(taking.map(candidate).collect())
    }

    fn linked(&self, host: &str) -> Option<&LinkedHub> {
        let mut hubs = self.config.linked_hubs.iter();
        hubs.find(|linked| linked.hub.host_name().eq_ignore_ascii_case(host))
    }

    /// Asks the enrolment's webhook.
    async fn ask(
        &self,
        enrollment: &Enrollment,
        registration: &Registration,
        candidates: &[Candidate],
        payload: Option<Value>,
    ) -> Result<Decision, DpsError> {
        let url = enrollment.webhook.as_deref();
        let url = url.ok_or_else(|| DpsError::webhook("there is no webhook"))?;
        let hosts: Vec<&str> = candidates.iter().map(|c| c.host.as_str()).collect();
        let mut context = json!({ "registrationId": registration.id, "symmetricKey": {} });
        if let Some(current) = &registration.hub {
            let name = match self.config.webhook_spelling {
                WebhookSpelling::IotHub => "currentIotHubHostName",
                WebhookSpelling::IoTHub => "currentIoTHubHostName",
            };
            context[name] = current.clone().into();
            context["currentDeviceId"] = registration.device_id.clone().into();
        }
        if let Some(payload) = payload {
            context["payload"] = payload;
        }
        let body = json!({
            enrollment.kind.record_field(): enrollment.json(),
            "deviceRuntimeContext": context,
            "linkedHubs": hosts,
        });
        let answer = webhook::call(url, &body, &self.tls, self.config.webhook_timeout).await?;
        let allowed = hosts
            .iter()
            .find(|host| host.eq_ignore_ascii_case(&answer.host));
        let host = allowed.ok_or_else(|| {
            let text = format!("Custom allocation failed: {:?} is not linked", answer.host);
            DpsError::webhook(text)
        })?;
        Ok(Decision {
            host: (*host).to_owned(),
            twin: answer.twin.unwrap_or_else(|| enrollment.twin.clone()),
            payload: answer.payload,
        })
    }

    /// Puts the device into its hub, and takes it out of the one it was in.
    fn place(
        &self,
        enrollment: &Enrollment,
        registration: &Registration,
        decision: &Decision,
    ) -> Result<&'static str, DpsError> {
        let unlinked = |host: &str| DpsError::argument(format!("hub {host:?} is not linked"));
        let target = self
            .linked(&decision.host)
            .ok_or_else(|| unlinked(&decision.host))?;
        let id = &registration.device_id;
        let keys = enrollment.device_keys(&registration.id);
        let (primary, secondary) = keys.ok_or_else(DpsError::unauthorized)?;
        let previous = registration
            .hub
            .as_deref()
            .and_then(|host| self.linked(host));
        let previous = previous.filter(|p| p.hub.host_name() != target.hub.host_name());
        let migrated = previous
            .filter(|_| enrollment.reprovision == Reprovision::Migrate)
            .and_then(|previous| previous.hub.core.export_twin(id));
        let substatus = match (previous, &migrated) {
            (None, _) => "initialAssignment",
            (Some(_), Some(_)) => "deviceDataMigrated",
            (Some(_), None) => "deviceDataReset",
        };
        let (twin, reported) = migrated.unwrap_or_else(|| (decision.twin.clone(), None));
        let provision = Provision {
            authentication: Authentication::Sas { primary, secondary },
            edge: enrollment.is_edge(),
            twin,
            reported,
            replaces_twin: previous.is_some(),
        };
        let refused = |text: String| DpsError::hub(format!("{}: {text}", decision.host));
        let placed = target.hub.core.provision(id, provision);
        placed.map_err(|error| refused(error.text))?;
        if let Some(previous) = previous {
            previous.hub.core.take_away(id);
        }
        Ok(substatus)
    }

    /// Writes an enrolment.
    pub(super) fn put(
        &self,
        kind: Kind,
        id: &str,
        body: &Value,
        etag: Option<&str>,
        only_new: bool,
    ) -> Result<Value, DpsError> {
        let now_us = self.now_us();
        let key = (kind, id.to_ascii_lowercase());
        let mut state = self.state();
        let before = state.enrollments.get(&key);
        if only_new && before.is_some() {
            return Err(DpsError::exists(id));
        }
        check_etag(before, etag, id)?;
        let enrollment = Enrollment::parse(kind, id, body, before, now_us)?;
        if let Some(host) = enrollment
            .hubs
            .iter()
            .find(|host| self.linked(host).is_none())
        {
            return Err(DpsError::argument(format!(
                "iotHubs: {host:?} is not linked"
            )));
        }
        if before.is_none() {
            let (max, what) = match kind {
                Kind::Individual => (RECORDS_MAX, "enrollments"),
                Kind::Group => (GROUPS_MAX, "enrollment groups"),
            };
            let count = state.enrollments.keys().filter(|(k, _)| *k == kind).count();
            if count >= max {
                return Err(DpsError::full(what));
            }
        }
        let mut answer = enrollment.json();
        answer["attestation"] = enrollment.attestation();
        state.enrollments.insert(key, enrollment);
        Ok(answer)
    }

    pub(super) fn enrollment(&self, kind: Kind, id: &str) -> Result<Enrollment, DpsError> {
        let found = self
            .state()
            .enrollments
            .get(&(kind, id.to_ascii_lowercase()))
            .cloned();
        found.ok_or_else(|| DpsError::no_enrollment(id))
    }

    /// A record as it is answered; an individual one tells what became of its device.
    pub(super) fn enrollment_json(&self, enrollment: &Enrollment) -> Value {
        let mut json = enrollment.json();
        if enrollment.kind == Kind::Individual
            && let Ok(registration) = self.registration(&enrollment.id)
        {
            json["registrationState"] = registration.json();
        }
        json
    }

    pub(super) fn enrollments(&self, kind: Kind) -> Vec<Value> {
        let state = self.state();
        let of_kind = state.enrollments.values().filter(|e| e.kind == kind);
        let found: Vec<Enrollment> = of_kind.cloned().collect();
        drop(state);
        found.iter().map(|e| self.enrollment_json(e)).collect()
    }

    pub(super) fn delete(&self, kind: Kind, id: &str, etag: Option<&str>) -> Result<(), DpsError> {
        let key = (kind, id.to_ascii_lowercase());
        let mut state = self.state();
        let before = state.enrollments.get(&key);
        if before.is_none() {
            return Err(DpsError::no_enrollment(id));
        }
        check_etag(before, etag, id)?;
        state.enrollments.remove(&key);
        Ok(())
    }

    pub(super) fn registration(&self, id: &str) -> Result<Registration, DpsError> {
        let found = self
            .state()
            .registrations
            .get(&id.to_ascii_lowercase())
            .cloned();
        found.ok_or_else(|| DpsError::no_registration(id))
    }

    pub(super) fn delete_registration(&self, id: &str) -> Result<(), DpsError> {
        let removed = self.state().registrations.remove(&id.to_ascii_lowercase());
        removed
            .map(drop)
            .ok_or_else(|| DpsError::no_registration(id))
    }

    pub(super) fn registrations_of(&self, group: &str) -> Vec<Value> {
        let state = self.state();
        let of_group = state.registrations.values().filter(|registration| {
            let own = registration.group.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(group))
        });
        of_group.map(Registration::json).collect()
    }
}

fn check_etag(before: Option<&Enrollment>, etag: Option<&str>, id: &str) -> Result<(), DpsError> {
    match (etag, before) {
        (None, _) | (Some("*"), Some(_)) => Ok(()),
        (Some(etag), Some(before)) if before.etag() == etag => Ok(()),
        _ => Err(DpsError::etag(id)),
    }
}
