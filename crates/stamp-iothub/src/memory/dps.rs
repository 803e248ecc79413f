//! The DPS in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::{Gate, Hook, MemoryIotHub, MemoryRequest, page, refused, wrong};
use crate::DeviceRegistry as _;
use crate::dps::{ProvisioningService, bulk_body};
use crate::enrollment::{Attestation, BulkMode, Enrollment, EnrollmentKind, Registration};
use crate::error::ServiceError;
use crate::page::{BulkAnswer, BulkProblem, Page, PageRequest};

/// A DPS in memory, linked to hubs in memory. Clones are the same service.
///
/// A device that registers gets the first hub of its enrolment, or of all hubs. It is let go to
/// another hub, and its twin goes with it, as the enrolment's reprovision policy says.
#[derive(Debug, Clone)]
pub struct MemoryDps {
    name: Arc<str>,
    hubs: Arc<Vec<MemoryIotHub>>,
    state: Arc<Mutex<State>>,
    gate: Gate,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a device that goes to another hub stays in the one that it leaves.
    leaves_devices: bool,
    /// Records with keys.
    enrollments: BTreeMap<(EnrollmentKind, String), Value>,
    registrations: BTreeMap<String, Value>,
    changes: u64,
}

impl MemoryDps {
    /// A service without enrolments.
    #[must_use]
    pub fn new(name: &str, hubs: Vec<MemoryIotHub>) -> Self {
        Self {
            name: name.into(),
            hubs: Arc::new(hubs),
            state: Arc::default(),
            gate: Gate::default(),
        }
    }

    /// Shows every request to `hook` first; `None` takes it away.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.gate.set(hook);
    }

    /// Whether a device that goes to another hub stays registered in the one that it leaves. The
    /// service takes it away there, as this one does unless told; but not if that hub is away.
    pub fn set_leaves_devices(&self, leaves: bool) {
        self.state().leaves_devices = leaves;
    }

    /// Enrols a device, or changes its enrolment, as somebody else would.
    pub fn enroll(&self, enrollment: &Enrollment) {
        let key = (enrollment.kind, enrollment.id.to_ascii_lowercase());
        self.state().put(key, enrollment.json());
    }

    /// The record of an individual enrolment, without keys.
    #[must_use]
    pub fn enrolled(&self, id: &str) -> Option<Enrollment> {
        let key = (EnrollmentKind::Individual, id.to_ascii_lowercase());
        let record = self.state().enrollments.get(&key).map(without_keys)?;
        Enrollment::parse(EnrollmentKind::Individual, record).ok()
    }

    /// A device registers, with an individual enrolment or by the only group there is: the name of
    /// its hub, or `None` when it is refused.
    #[must_use]
    pub fn register(&self, id: &str) -> Option<String> {
        let mut state = self.state();
        let own = (EnrollmentKind::Individual, id.to_ascii_lowercase());
        let kind = match state.enrollments.contains_key(&own) {
            true => EnrollmentKind::Individual,
            false => EnrollmentKind::Group,
        };
        let mut records = state.enrollments.iter();
        let (_, record) = records.find(|(key, _)| match kind {
            EnrollmentKind::Individual => **key == own,
            EnrollmentKind::Group => key.0 == kind,
        })?;
        let enrollment = Enrollment::parse(kind, record.clone()).ok()?;
        if !enrollment.is_enabled() {
            return None;
        }
        let before = state.registrations.get(id);
        let before = before.and_then(|known| known["assignedHub"].as_str());
        let before = before.and_then(|name| self.hub(name)).cloned();
        let policy = record["reprovisionPolicy"].clone();
        let device = match kind {
            EnrollmentKind::Individual => enrollment.device_id().to_owned(),
            EnrollmentKind::Group => id.to_owned(),
        };
        let hub = self.choose(&enrollment, before.as_ref(), &policy)?.clone();
        let left = before.filter(|before| before.name() != hub.name());
        let migrates = policy["migrateDeviceData"].as_bool().unwrap_or(true);
        let twin = left
            .as_ref()
            .filter(|_| migrates)
            .and_then(|left| left.export(&device));
        hub.provision(
            &device,
            twin.unwrap_or_else(|| record["initialTwin"].clone()),
        );
        if let Some(left) = left.filter(|_| !state.leaves_devices) {
            left.remove(&device);
        }
        let group = (kind == EnrollmentKind::Group).then(|| enrollment.id.clone());
        let registration = json!({
            "registrationId": id, "status": "assigned", "assignedHub": hub.name(), "deviceId": device,
            "symmetricKey": { "enrollmentGroupId": group },
        });
        state.registrations.insert(id.to_owned(), registration);
        Some(hub.name().to_owned())
    }

    fn choose<'a>(
        &'a self,
        enrollment: &Enrollment,
        before: Option<&'a MemoryIotHub>,
        policy: &Value,
    ) -> Option<&'a MemoryIotHub> {
        if policy["updateHubAssignment"] == false && before.is_some() {
            return before;
        }
        match enrollment.hubs()[..] {
            [] => self.hubs.first(),
            [name, ..] => self.hub(name),
        }
    }

    fn hub(&self, name: &str) -> Option<&MemoryIotHub> {
        self.hubs
            .iter()
            .find(|hub| hub.name().eq_ignore_ascii_case(name))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request<'a>(
        &'a self,
        method: &'static str,
        id: &'a str,
        is_write: bool,
    ) -> MemoryRequest<'a> {
        MemoryRequest {
            service: &self.name,
            method,
            id,
            is_write,
        }
    }
}

impl State {
    fn put(&mut self, key: (EnrollmentKind, String), mut record: Value) {
        self.changes += 1;
        record["etag"] = self.changes.to_string().into();
        let before = self.enrollments.get(&key);
        let attestation = &record["attestation"];
        if attestation["type"] == "symmetricKey" && attestation["symmetricKey"].is_null() {
            // Without keys it gets new ones: what the service does is not published.
            let made = format!("a2V5LW9mLQ{}==", self.changes);
            record["attestation"] = Attestation::symmetric(&made, &made).json();
        }
        if let Some(before) = before {
            record["createdDateTimeUtc"] = before["createdDateTimeUtc"].clone();
        }
        self.enrollments.insert(key, record);
    }

    fn check(
        &self,
        request: &MemoryRequest<'_>,
        key: &(EnrollmentKind, String),
        etag: Option<&str>,
    ) -> Result<(), ServiceError> {
        let before = self.enrollments.get(key);
        match (etag, before) {
            (None, _) => Ok(()),
            (Some(etag), Some(before)) if before["etag"] == etag => Ok(()),
            _ => Err(refused(request, 412, 412_001, "another entity tag")),
        }
    }
}

fn without_keys(record: &Value) -> Value {
    let mut record = record.clone();
    if let Some(Value::Object(attestation)) = record.get_mut("attestation") {
        attestation.remove("symmetricKey");
    }
    record
}

fn missing(request: &MemoryRequest<'_>) -> ServiceError {
    refused(request, 404, 404_202, "no such enrolment")
}

impl ProvisioningService for MemoryDps {
    fn name(&self) -> &str {
        &self.name
    }

    async fn enrollment(&self, kind: EnrollmentKind, id: &str) -> Result<Enrollment, ServiceError> {
        let request = self.request("enrollment", id, false);
        let act = || {
            let key = (kind, id.to_ascii_lowercase());
            let record = self.state().enrollments.get(&key).map(without_keys);
            let record = record.ok_or_else(|| missing(&request))?;
            Enrollment::parse(kind, record).map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn attestation(
        &self,
        kind: EnrollmentKind,
        id: &str,
    ) -> Result<Attestation, ServiceError> {
        let request = self.request("attestation", id, false);
        let act = || {
            let key = (kind, id.to_ascii_lowercase());
            let record = self.state().enrollments.get(&key).cloned();
            let record = record.ok_or_else(|| missing(&request))?;
            let parsed = Attestation::parse(record["attestation"].clone());
            parsed.map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn put(
        &self,
        enrollment: &Enrollment,
        etag: Option<&str>,
    ) -> Result<Enrollment, ServiceError> {
        let (kind, id) = (enrollment.kind, enrollment.id.as_str());
        let request = self.request("put", id, true);
        let act = || {
            let key = (kind, id.to_ascii_lowercase());
            let mut state = self.state();
            state.check(&request, &key, etag)?;
            state.put(key.clone(), enrollment.json());
            let record = state.enrollments[&key].clone();
            Enrollment::parse(kind, record).map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn delete(&self, kind: EnrollmentKind, id: &str, etag: &str) -> Result<(), ServiceError> {
        let request = self.request("delete", id, true);
        let act = || {
            let key = (kind, id.to_ascii_lowercase());
            let mut state = self.state();
            if !state.enrollments.contains_key(&key) {
                return Err(missing(&request));
            }
            state.check(&request, &key, Some(etag))?;
            state.enrollments.remove(&key);
            Ok(())
        };
        self.gate.pass(request, act).await
    }

    async fn bulk(
        &self,
        kind: EnrollmentKind,
        mode: BulkMode,
        entries: &[Enrollment],
    ) -> Result<BulkAnswer, ServiceError> {
        bulk_body(kind, mode, entries)?;
        let first = entries.first().map_or("", |entry| entry.id.as_str());
        let request = self.request("bulk", first, true);
        let act = || {
            let mut state = self.state();
            let mut answer = BulkAnswer::default();
            for entry in entries {
                let key = (kind, entry.id.to_ascii_lowercase());
                let present = state.enrollments.contains_key(&key);
                let checked = match mode {
                    BulkMode::UpdateIfMatch => state.check(&request, &key, Some(&entry.etag)),
                    BulkMode::Create if present => Err(refused(&request, 409, 409_201, "is there")),
                    BulkMode::Update | BulkMode::Delete if !present => Err(missing(&request)),
                    BulkMode::Create | BulkMode::Update | BulkMode::Delete => Ok(()),
                };
                match (checked, mode) {
                    (Ok(()), BulkMode::Delete) => drop(state.enrollments.remove(&key)),
                    (Ok(()), _) => state.put(key, entry.json()),
                    (Err(error), _) => answer.problems.push(problem(&entry.id, &error)),
                }
            }
            Ok(answer)
        };
        self.gate.pass(request, act).await
    }

    async fn query(
        &self,
        kind: EnrollmentKind,
        asked: &PageRequest,
    ) -> Result<Page<Enrollment>, ServiceError> {
        let request = self.request("query", "", false);
        let act = || {
            let state = self.state();
            let of_kind = state.enrollments.iter().filter(|(key, _)| key.0 == kind);
            let items: Result<Vec<_>, _> = of_kind
                .map(|(_, record)| Enrollment::parse(kind, without_keys(record)))
                .collect();
            let items = items.map_err(|detail| wrong(&request, detail))?;
            Ok(page(&items, asked))
        };
        self.gate.pass(request, act).await
    }

    async fn registration(&self, id: &str) -> Result<Registration, ServiceError> {
        let request = self.request("registration", id, false);
        let act = || {
            let found = self.state().registrations.get(id).cloned();
            let missing = || refused(&request, 404, 404_201, "it never registered");
            let parsed = Registration::parse(found.ok_or_else(missing)?);
            parsed.map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn delete_registration(&self, id: &str) -> Result<(), ServiceError> {
        let request = self.request("delete_registration", id, true);
        let act = || match self.state().registrations.remove(id) {
            Some(_) => Ok(()),
            None => Err(refused(&request, 404, 404_201, "it never registered")),
        };
        self.gate.pass(request, act).await
    }

    async fn registrations_of(
        &self,
        group: &str,
        asked: &PageRequest,
    ) -> Result<Page<Registration>, ServiceError> {
        let request = self.request("registrations_of", group, false);
        let act = || {
            let state = self.state();
            let all = state.registrations.values().cloned();
            let all: Result<Vec<_>, _> = all.map(Registration::parse).collect();
            let mut items = all.map_err(|detail| wrong(&request, detail))?;
            items.retain(|registration| registration.group_id.as_deref() == Some(group));
            Ok(page(&items, asked))
        };
        self.gate.pass(request, act).await
    }
}

fn problem(id: &str, error: &ServiceError) -> BulkProblem {
    let code = error.refusal().and_then(|refusal| refusal.code);
    BulkProblem {
        id: id.to_owned(),
        code: code.unwrap_or_default().to_string(),
        detail: error.to_string(),
    }
}
