//! The hub in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use stamp_model::DeviceId;

use super::{Gate, Hook, MemoryRequest, merge, page, refused, wrong};
use crate::device::{Device, DeviceStatus, ImportEntry, ImportMode, Statistics};
use crate::error::ServiceError;
use crate::hub::{DeviceRegistry, check_entries};
use crate::page::{BulkAnswer, BulkProblem, Page, PageRequest};
use crate::twin::Twin;

/// A hub in memory. Clones are the same hub.
#[derive(Debug, Clone)]
pub struct MemoryIotHub {
    name: Arc<str>,
    state: Arc<Mutex<State>>,
    gate: Gate,
}

#[derive(Debug, Default)]
struct State {
    devices: BTreeMap<String, Stored>,
    /// Grows with every change: entity tags and generations are made of it.
    changes: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Value,
    pub(super) twin: Value,
}

impl MemoryIotHub {
    /// A hub without devices.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            state: Arc::default(),
            gate: Gate::default(),
        }
    }

    /// Shows every request to `hook` first; `None` takes it away.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.gate.set(hook);
    }

    /// Whether a device would be let in.
    #[must_use]
    pub fn admits(&self, id: &str) -> bool {
        self.status(id) == Some(DeviceStatus::Enabled)
    }

    /// A device's status; `None` when there is no such device.
    #[must_use]
    pub fn status(&self, id: &str) -> Option<DeviceStatus> {
        let state = self.state();
        let stored = state.devices.get(id)?;
        DeviceStatus::parse(stored.record["status"].as_str()?)
    }

    /// Registers a device, or puts it back, as somebody else would.
    pub fn put(&self, id: &str, status: DeviceStatus) {
        self.state().put(id, status, json!({}));
    }

    /// Deletes a device, as somebody else would.
    pub fn remove(&self, id: &str) {
        self.state().devices.remove(id);
    }

    /// What DPS takes along when a device moves.
    pub(super) fn export(&self, id: &str) -> Option<Value> {
        Some(self.state().devices.get(id)?.twin.clone())
    }

    /// A device as DPS puts it here; one that is here keeps its status.
    pub(super) fn provision(&self, id: &str, twin: Value) {
        let mut state = self.state();
        match state.devices.contains_key(id) {
            true => state.touch(id),
            false => state.put(id, DeviceStatus::Enabled, twin),
        }
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
    fn put(&mut self, id: &str, status: DeviceStatus, twin: Value) {
        self.changes += 1;
        let record = json!({
            "deviceId": id,
            "etag": self.changes.to_string(),
            "generationId": format!("g{}", self.changes),
            "status": status.as_str(),
        });
        let mut whole =
            json!({ "deviceId": id, "etag": "t1", "version": 1, "tags": {}, "properties": {} });
        if twin.is_object() {
            merge(&mut whole, &twin);
        }
        let twin = whole;
        self.devices.insert(id.to_owned(), Stored { record, twin });
    }

    fn touch(&mut self, id: &str) {
        self.changes += 1;
        if let Some(stored) = self.devices.get_mut(id) {
            stored.record["etag"] = self.changes.to_string().into();
        }
    }

    /// The device, when it has this entity tag.
    fn matching(
        &mut self,
        request: &MemoryRequest<'_>,
        etag: &str,
        of: fn(&Stored) -> &Value,
    ) -> Result<&mut Stored, ServiceError> {
        let missing = || refused(request, 404, 404_001, "no such device");
        let stored = self.devices.get_mut(request.id).ok_or_else(missing)?;
        match of(stored)["etag"] == etag {
            true => Ok(stored),
            false => Err(refused(request, 412, 412_001, "another entity tag")),
        }
    }

    fn import(&mut self, entry: &ImportEntry) -> Result<(), ServiceError> {
        let id = entry.id.as_str();
        let request = MemoryRequest {
            service: "",
            method: "import",
            id,
            is_write: true,
        };
        let etag = entry.etag.as_deref().unwrap_or_default();
        let twin = json!({ "tags": entry.tags.clone().unwrap_or_default() });
        let present = self.devices.contains_key(id);
        match entry.mode {
            ImportMode::Create if present => Err(refused(&request, 409, 409_001, "it is there")),
            ImportMode::Create => {
                self.put(id, entry.status, twin);
                Ok(())
            }
            ImportMode::CreateOrUpdate if !present => {
                self.put(id, entry.status, twin);
                Ok(())
            }
            ImportMode::CreateOrUpdate => {
                self.set_status(id, entry.status);
                Ok(())
            }
            ImportMode::UpdateIfMatch => {
                self.matching(&request, etag, |stored| &stored.record)?;
                self.set_status(id, entry.status);
                Ok(())
            }
            ImportMode::DeleteIfMatch => {
                self.matching(&request, etag, |stored| &stored.record)?;
                self.devices.remove(id);
                Ok(())
            }
        }
    }

    fn set_status(&mut self, id: &str, status: DeviceStatus) {
        if let Some(stored) = self.devices.get_mut(id) {
            stored.record["status"] = status.as_str().into();
        }
        self.touch(id);
    }
}

impl DeviceRegistry for MemoryIotHub {
    fn name(&self) -> &str {
        &self.name
    }

    async fn device(&self, id: &DeviceId) -> Result<Device, ServiceError> {
        let request = self.request("device", id.as_str(), false);
        let act = || {
            let found = self.state().devices.get(id.as_str()).cloned();
            let missing = || refused(&request, 404, 404_001, "no such device");
            let record = found.ok_or_else(missing)?.record;
            Device::parse(record).map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn create(&self, id: &DeviceId, record: &Value) -> Result<Device, ServiceError> {
        let request = self.request("create", id.as_str(), true);
        let act = || {
            let mut state = self.state();
            if state.devices.contains_key(id.as_str()) {
                return Err(refused(&request, 409, 409_001, "it is there already"));
            }
            let status = record["status"].as_str().and_then(DeviceStatus::parse);
            state.put(
                id.as_str(),
                status.unwrap_or(DeviceStatus::Enabled),
                json!({}),
            );
            let record = state.devices[id.as_str()].record.clone();
            Device::parse(record).map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn update(
        &self,
        id: &DeviceId,
        etag: &str,
        record: &Value,
    ) -> Result<Device, ServiceError> {
        let request = self.request("update", id.as_str(), true);
        let act = || {
            let mut state = self.state();
            let stored = state.matching(&request, etag, |stored| &stored.record)?;
            let generation = stored.record["generationId"].clone();
            stored.record = record.clone();
            stored.record["generationId"] = generation;
            state.touch(id.as_str());
            let record = state.devices[id.as_str()].record.clone();
            Device::parse(record).map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn delete(&self, id: &DeviceId, etag: &str) -> Result<(), ServiceError> {
        let request = self.request("delete", id.as_str(), true);
        let act = || {
            let mut state = self.state();
            state.matching(&request, etag, |stored| &stored.record)?;
            state.devices.remove(id.as_str());
            Ok(())
        };
        self.gate.pass(request, act).await
    }

    async fn import(&self, entries: &[ImportEntry]) -> Result<BulkAnswer, ServiceError> {
        check_entries(entries.len())?;
        let act = || {
            let mut state = self.state();
            let mut answer = BulkAnswer::default();
            for entry in entries {
                if let Err(error) = state.import(entry) {
                    let code = error.refusal().and_then(|refusal| refusal.code);
                    answer.problems.push(BulkProblem {
                        id: entry.id.as_str().to_owned(),
                        code: code.unwrap_or_default().to_string(),
                        detail: error.to_string(),
                    });
                }
            }
            Ok(answer)
        };
        self.gate.pass(self.request("import", "", true), act).await
    }

    async fn twin(&self, id: &DeviceId) -> Result<Twin, ServiceError> {
        let request = self.request("twin", id.as_str(), false);
        let act = || {
            let found = self.export(id.as_str());
            let missing = || refused(&request, 404, 404_001, "no such device");
            Twin::parse(found.ok_or_else(missing)?).map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    async fn patch_twin(
        &self,
        id: &DeviceId,
        etag: &str,
        patch: &Value,
    ) -> Result<Twin, ServiceError> {
        let request = self.request("patch_twin", id.as_str(), true);
        let act = || {
            let mut state = self.state();
            let stored = state.matching(&request, etag, |stored| &stored.twin)?;
            merge(&mut stored.twin, patch);
            let version = stored.twin["version"].as_u64().unwrap_or_default() + 1;
            stored.twin["version"] = version.into();
            stored.twin["etag"] = format!("t{version}").into();
            Twin::parse(stored.twin.clone()).map_err(|detail| wrong(&request, detail))
        };
        self.gate.pass(request, act).await
    }

    /// Understands `SELECT * FROM devices` and nothing else.
    async fn query(&self, sql: &str, asked: &PageRequest) -> Result<Page<Value>, ServiceError> {
        let request = self.request("query", "", false);
        let act = || {
            if sql != "SELECT * FROM devices" {
                return Err(refused(&request, 400, 400_004, "SELECT * FROM devices"));
            }
            let state = self.state();
            let items: Vec<Value> = state.devices.values().map(|d| d.twin.clone()).collect();
            Ok(page(&items, asked))
        };
        self.gate.pass(request, act).await
    }

    async fn statistics(&self) -> Result<Statistics, ServiceError> {
        let act = || {
            let state = self.state();
            let enabled = |stored: &&Stored| stored.record["status"] == "enabled";
            let (devices, enabled) = (
                state.devices.len() as u64,
                state.devices.values().filter(enabled).count() as u64,
            );
            Ok(Statistics {
                devices,
                enabled,
                disabled: devices - enabled,
            })
        };
        self.gate
            .pass(self.request("statistics", "", false), act)
            .await
    }
}
