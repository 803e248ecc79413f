//! A device's twin: tags, desired and reported properties, with versions and when each changed.

use serde_json::{Map, Value, json};

use super::error::HubError;
use crate::time;

/// Desired or reported properties (IoT Hub quotas: 32 KB each).
const SECTION_BYTES_MAX: usize = 32 * 1024;
/// Tags (IoT Hub quotas: 8 KB).
const TAGS_BYTES_MAX: usize = 8 * 1024;

/// Desired or reported properties.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Section {
    values: Map<String, Value>,
    metadata: Map<String, Value>,
    pub(crate) version: u64,
}

impl Section {
    /// The first version.
    pub(crate) fn first(values: Map<String, Value>, now_us: i64) -> Self {
        let mut section = Self::default();
        section.merge(&values, now_us);
        section.touch(now_us);
        section.version = 1;
        section
    }

    /// Takes a patch in: `null` takes a property away. The version rises by one.
    pub(crate) fn merge(&mut self, patch: &Map<String, Value>, now_us: i64) {
        let now = time::utc(now_us);
        merge(&mut self.values, patch);
        stamp(&mut self.metadata, patch, &now);
        self.touch(now_us);
        self.version += 1;
    }

    /// All properties are these from now on. The version rises by one.
    pub(crate) fn replace(&mut self, values: &Map<String, Value>, now_us: i64) {
        self.values.clear();
        self.metadata.clear();
        self.merge(values, now_us);
    }

    fn touch(&mut self, now_us: i64) {
        self.metadata
            .insert("$lastUpdated".to_owned(), time::utc(now_us).into());
    }

    pub(crate) fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// As the service answers it.
    pub(crate) fn full(&self) -> Value {
        let mut full = self.values.clone();
        full.insert("$metadata".to_owned(), self.metadata.clone().into());
        full.insert("$version".to_owned(), self.version.into());
        full.into()
    }

    /// As the device gets it.
    pub(crate) fn plain(&self) -> Value {
        let mut plain = self.values.clone();
        plain.insert("$version".to_owned(), self.version.into());
        plain.into()
    }

    /// A patch as the device gets it.
    pub(crate) fn patch(&self, patch: &Map<String, Value>) -> Value {
        let mut patch = without_own(patch);
        patch.insert("$version".to_owned(), self.version.into());
        patch.into()
    }
}

/// A device's twin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Twin {
    pub(crate) tags: Map<String, Value>,
    pub(crate) desired: Section,
    pub(crate) reported: Section,
    pub(crate) version: u64,
}

impl Twin {
    pub(crate) fn new(tags: Map<String, Value>, desired: Map<String, Value>, now_us: i64) -> Self {
        Self {
            tags,
            desired: Section::first(desired, now_us),
            reported: Section::first(Map::new(), now_us),
            version: 2,
        }
    }

    /// A service program's change of tags and desired properties.
    pub(crate) fn change(&mut self, change: &Change, replace: bool, now_us: i64) {
        if let Some(tags) = &change.tags {
            if replace {
                self.tags.clear();
            }
            merge(&mut self.tags, tags);
        }
        match &change.desired {
            Some(desired) if replace => self.desired.replace(desired, now_us),
            Some(desired) => self.desired.merge(desired, now_us),
            None => {}
        }
        self.version += 1;
    }

    /// # Errors
    /// A 413 when a section is larger than the service allows.
    pub(crate) fn check(&self) -> Result<(), HubError> {
        let size = |map: &Map<String, Value>| Value::from(map.clone()).to_string().len();
        if size(&self.tags) > TAGS_BYTES_MAX {
            return Err(HubError::too_large("tags"));
        }
        if size(self.desired.values()) > SECTION_BYTES_MAX {
            return Err(HubError::too_large("desired properties"));
        }
        if size(self.reported.values()) > SECTION_BYTES_MAX {
            return Err(HubError::too_large("reported properties"));
        }
        Ok(())
    }
}

/// Tags and desired properties that a client wrote.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Change {
    pub(crate) tags: Option<Map<String, Value>>,
    pub(crate) desired: Option<Map<String, Value>>,
}

impl Change {
    /// Reads `{"tags":{..},"properties":{"desired":{..}}}`; both may be missing or null.
    ///
    /// # Errors
    /// A 400 that names what is no object.
    pub(crate) fn parse(body: &Value) -> Result<Self, HubError> {
        Ok(Self {
            tags: section(&body["tags"], "tags")?,
            desired: section(&body["properties"]["desired"], "properties.desired")?,
        })
    }

    pub(crate) fn json(&self) -> Value {
        let mut json = json!({});
        if let Some(tags) = &self.tags {
            json["tags"] = tags.clone().into();
        }
        if let Some(desired) = &self.desired {
            json["properties"] = json!({ "desired": desired });
        }
        json
    }
}

fn section(value: &Value, name: &str) -> Result<Option<Map<String, Value>>, HubError> {
    match value {
        Value::Null => Ok(None),
        Value::Object(map) => Ok(Some(without_own(map))),
        _ => Err(HubError::argument(format!("{name} must be an object"))),
    }
}

/// Without what the hub itself writes: `$version` and `$metadata`.
pub(crate) fn without_own(map: &Map<String, Value>) -> Map<String, Value> {
    let own = |name: &str| matches!(name, "$version" | "$metadata");
    let kept = map.iter().filter(|(name, _)| !own(name));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// JSON merge patch: `null` takes a member away.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(name)),
            Value::Object(inner) => {
                let slot = target.entry(name.clone()).or_insert_with(|| json!({}));
                if !slot.is_object() {
                    *slot = json!({});
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            value => drop(target.insert(name.clone(), value.clone())),
        }
    }
}

/// Notes when each property changed.
fn stamp(metadata: &mut Map<String, Value>, patch: &Map<String, Value>, now: &str) {
    for (name, value) in patch {
        if value.is_null() {
            metadata.remove(name);
            continue;
        }
        let slot = metadata.entry(name.clone()).or_insert_with(|| json!({}));
        slot["$lastUpdated"] = now.into();
        if let (Value::Object(slot), Value::Object(inner)) = (slot, value) {
            stamp(slot, inner, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_patch_merges_null_deletes_and_versions_rise() {
        let mut section = Section::first(map(json!({"a": 1, "b": {"c": 2, "d": 3}})), 0);
        section.merge(&map(json!({"a": null, "b": {"c": 5}})), 1_000_000);

        let full = section.full();
        assert_eq!(full["$version"], 2);
        assert_eq!(section.values(), &map(json!({"b": {"c": 5, "d": 3}})));
        let metadata = &full["$metadata"];
        assert_eq!(metadata["a"], Value::Null);
        assert_eq!(metadata["b"]["c"]["$lastUpdated"], time::utc(1_000_000));
        assert_eq!(metadata["b"]["d"]["$lastUpdated"], time::utc(0));
    }

    #[test]
    fn a_replacement_leaves_nothing_of_before() {
        let mut twin = Twin::new(map(json!({"site": "n"})), map(json!({"a": 1})), 0);
        let change = Change::parse(&json!({"tags": {"t": 1}, "properties": {"desired": {"b": 2}}}));
        twin.change(&change.unwrap(), true, 1);
        assert_eq!(twin.tags, map(json!({"t": 1})));
        assert_eq!(twin.desired.values(), &map(json!({"b": 2})));
        assert_eq!((twin.version, twin.desired.version), (3, 2));
    }

    #[test]
    fn sections_have_the_limits_of_the_service() {
        let long = "x".repeat(9_000);
        let twin = Twin::new(
            map(json!({ "t": long.clone() })),
            map(json!({ "t": long })),
            0,
        );
        assert_eq!(twin.check().unwrap_err().status, 413);
        assert!(Change::parse(&json!({"tags": 3})).is_err());
    }
}
