//! What service programs do with a hub: identities, twins, queries.

use serde_json::{Map, Value, json};

use super::condition::{Condition, follow};
use super::device::{Authentication, Device, Wish};
use super::error::HubError;
use super::events::Notice;
use super::hub::{HubCore, State};
use super::registry::Match;
use super::twin::Change;

/// Entries of one bulk request (REST API of the identity registry).
const BULK_MAX: usize = 100;

impl HubCore {
    /// Registers a device.
    pub(super) fn create(&self, id: &str, wish: Wish, twin: &Change) -> Result<Device, HubError> {
        let now_us = self.now_us();
        let mut state = self.state();
        let device = state
            .registry
            .create(&self.host, id, wish, twin, now_us)?
            .clone();
        self.notify(&mut state, &device, Notice::Created, &device.twin_json());
        Ok(device)
    }

    /// Changes an identity. One that is disabled by it loses its connection.
    pub(super) fn update(&self, id: &str, wish: Wish, only: Match<'_>) -> Result<Device, HubError> {
        let now_us = self.now_us();
        let device = self
            .state()
            .registry
            .update(id, wish, only, now_us)?
            .clone();
        if device.disabled {
            self.disconnect(id);
        }
        Ok(device)
    }

    /// Deletes a device and ends its connection.
    pub(super) fn delete(&self, id: &str, only: Match<'_>) -> Result<Device, HubError> {
        let mut state = self.state();
        let device = state.registry.delete(id, only)?;
        self.notify(&mut state, &device, Notice::Deleted, &device.twin_json());
        drop(state);
        self.disconnect(id);
        Ok(device)
    }

    pub(super) fn get(&self, id: &str) -> Result<Device, HubError> {
        self.state().registry.get(id).cloned()
    }

    pub(super) fn list(&self, most: usize) -> Vec<Value> {
        let state = self.state();
        let devices = state.registry.all().take(most);
        devices.map(|device| device.json(&self.host)).collect()
    }

    pub(super) fn statistics(&self) -> Value {
        let state = self.state();
        let disabled = state
            .registry
            .all()
            .filter(|device| device.disabled)
            .count();
        json!({
            "totalDeviceCount": state.registry.len(),
            "enabledDeviceCount": state.registry.len() - disabled,
            "disabledDeviceCount": disabled,
        })
    }

    pub(super) fn connected_count(&self) -> usize {
        let state = self.state();
        state
            .registry
            .all()
            .filter(|device| device.connected)
            .count()
    }

    /// Changes tags and desired properties; the device hears of the latter.
    pub(super) fn change_twin(
        &self,
        id: &str,
        change: &Change,
        replace: bool,
        only: Match<'_>,
    ) -> Result<Device, HubError> {
        let now_us = self.now_us();
        let mut state = self.state();
        let changed = state
            .registry
            .change_twin(id, change, replace, only, now_us);
        let device = changed?.clone();
        self.tell_twin_change(&mut state, &device, change, replace);
        Ok(device)
    }

    fn tell_twin_change(&self, state: &mut State, device: &Device, change: &Change, replace: bool) {
        let mut body = if replace {
            device.twin_json()
        } else {
            change.json()
        };
        body["version"] = device.twin.version.into();
        if let Some(desired) = &change.desired {
            body["properties"]["desired"] = device.twin.desired.patch(desired);
            HubCore::tell_desired(state, device, desired);
        }
        let notice = if replace {
            Notice::TwinReplaced
        } else {
            Notice::TwinUpdated
        };
        self.notify(state, device, notice, &body);
    }

    /// Does every entry of a bulk request it can; gives the answer and whether all went well.
    pub(super) fn bulk(&self, body: &Value) -> Result<(Value, bool), HubError> {
        let entries = body
            .as_array()
            .ok_or_else(|| HubError::argument("an array is expected"))?;
        if entries.len() > BULK_MAX {
            let text = format!("at most {BULK_MAX} devices in one request");
            return Err(HubError::argument(text));
        }
        let mut errors = Vec::new();
        for entry in entries {
            let id = entry["id"].as_str().unwrap_or_default();
            if let Err(error) = self.bulk_entry(id, entry) {
                errors.push(json!({
                    "deviceId": id,
                    "errorCode": error.name,
                    "errorStatus": format!("{} {}", error.code, error.text),
                }));
            }
        }
        let well = errors.is_empty();
        let answer = json!({ "isSuccessful": well, "errors": errors, "warnings": [] });
        Ok((answer, well))
    }

    fn bulk_entry(&self, id: &str, entry: &Value) -> Result<(), HubError> {
        let etag = Match::new(entry["eTag"].as_str().unwrap_or("*"));
        let twin_etag = Match::new(entry["twinETag"].as_str().unwrap_or("*"));
        let mode = entry["importMode"].as_str().unwrap_or("createOrUpdate");
        match mode {
            "create" => drop(self.create(id, Wish::parse(entry)?, &Change::parse(entry)?)?),
            "update" => drop(self.update(id, Wish::parse(entry)?, Match::Any)?),
            "updateIfMatchETag" => drop(self.update(id, Wish::parse(entry)?, etag)?),
            "createOrUpdate" | "createOrUpdateIfMatchETag" => {
                let only = if mode == "createOrUpdate" {
                    Match::Any
                } else {
                    etag
                };
                let wish = Wish::parse(entry)?;
                match self.update(id, wish.clone(), only) {
                    Err(error) if error.status == 404 => {
                        self.create(id, wish, &Change::parse(entry)?)?;
                    }
                    updated => drop(updated?),
                }
            }
            "delete" => drop(self.delete(id, Match::Any)?),
            "deleteIfMatchETag" => drop(self.delete(id, etag)?),
            "updateTwin" => {
                self.change_twin(id, &Change::parse(entry)?, false, Match::Any)?;
            }
            "updateTwinIfMatchETag" => {
                self.change_twin(id, &Change::parse(entry)?, false, twin_etag)?;
            }
            other => {
                return Err(HubError::argument(format!(
                    "importMode {other:?} is not known"
                )));
            }
        }
        Ok(())
    }

    /// Answers a query: the items and their type.
    pub(super) fn query(&self, text: &str) -> Result<(Vec<Value>, &'static str), HubError> {
        let query = Query::parse(text).map_err(HubError::argument)?;
        let state = self.state();
        let twins = state.registry.all().map(Device::twin_json);
        let found = twins.filter(|twin| {
            let condition = query.condition.as_ref();
            condition.is_none_or(|c| c.holds(&|path| follow(twin, unqualified(path))))
        });
        Ok(match query.count_as {
            Some(name) => (vec![json!({ name: found.count() })], "Raw"),
            None => (found.collect(), "Twin"),
        })
    }

    /// Puts a device here as DPS does. One that is here already keeps its status, and its twin too
    /// unless that is to be replaced.
    pub(crate) fn provision(&self, id: &str, wanted: Provision) -> Result<(), HubError> {
        let present = self.get(id).ok();
        let wish = Wish {
            authentication: Some(wanted.authentication),
            disabled: present.as_ref().is_some_and(|device| device.disabled),
            status_reason: present.as_ref().and_then(|d| d.status_reason.clone()),
            edge: wanted.edge,
        };
        if present.is_none() {
            self.create(id, wish, &wanted.twin)?;
        } else {
            self.update(id, wish, Match::Any)?;
            if wanted.replaces_twin {
                let all = Change {
                    tags: Some(wanted.twin.tags.unwrap_or_default()),
                    desired: Some(wanted.twin.desired.unwrap_or_default()),
                };
                self.change_twin(id, &all, true, Match::Any)?;
            }
        }
        match wanted.reported.filter(|reported| !reported.is_empty()) {
            Some(reported) => self.report(id, &reported).map(drop),
            None => Ok(()),
        }
    }

    /// A device's twin, to be put into another hub.
    pub(crate) fn export_twin(&self, id: &str) -> Option<(Change, Option<Map<String, Value>>)> {
        let twin = self.get(id).ok()?.twin;
        let reported = twin.reported.values().clone();
        let change = Change {
            tags: Some(twin.tags),
            desired: Some(twin.desired.values().clone()),
        };
        Some((change, Some(reported)))
    }

    /// Deletes a device that went to another hub; one that is gone already is no error.
    pub(crate) fn take_away(&self, id: &str) {
        if let Err(error) = self.delete(id, Match::Any) {
            tracing::debug!(
                device = id,
                code = error.code,
                "there was no device to take away"
            );
        }
    }
}

/// A device as DPS puts it into a hub.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Provision {
    pub(crate) authentication: Authentication,
    pub(crate) edge: bool,
    pub(crate) twin: Change,
    pub(crate) reported: Option<Map<String, Value>>,
    pub(crate) replaces_twin: bool,
}

/// `devices.tags.x` and `tags.x` mean the same.
fn unqualified(path: &str) -> &str {
    path.strip_prefix("devices.").unwrap_or(path)
}

/// A query over devices: all of each, or how many there are.
struct Query {
    count_as: Option<String>,
    condition: Option<Condition>,
}

impl Query {
    /// Parses `SELECT * | COUNT() [AS name] FROM devices [WHERE condition]`.
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is = |at: usize, word: &str| {
            let found = words.get(at).copied().unwrap_or_default();
            found.eq_ignore_ascii_case(word)
        };
        let refused = || {
            Err(format!(
                "{text:?}: SELECT * or SELECT COUNT() AS name FROM devices WHERE .. is understood"
            ))
        };
        let (count_as, from) = match () {
            () if is(0, "select") && is(1, "*") => (None, 2),
            () if is(0, "select") && is(1, "count()") && is(2, "as") => {
                (words.get(3).map(|&name| name.to_owned()), 4)
            }
            () if is(0, "select") && is(1, "count()") => (Some("count".to_owned()), 2),
            () => return refused(),
        };
        if !is(from, "from") || !is(from + 1, "devices") {
            return refused();
        }
        let condition = match words.get(from + 2) {
            None => None,
            Some(_) if is(from + 2, "where") => {
                // The condition's own spaces count: they may be inside a text.
                let at = text
                    .to_ascii_lowercase()
                    .find("where")
                    .map_or(0, |at| at + 5);
                Some(Condition::parse(&text[at..])?)
            }
            Some(_) => return refused(),
        };
        Ok(Self {
            count_as,
            condition,
        })
    }
}
