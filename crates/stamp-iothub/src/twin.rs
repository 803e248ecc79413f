//! Device twins.

use serde_json::{Map, Value};

/// A device's twin.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    /// The device.
    pub device_id: String,
    /// The entity tag, without quotes.
    pub etag: String,
    /// Grows with each change.
    pub version: u64,
    /// What service programs note about the device. The device does not see it.
    pub tags: Map<String, Value>,
    /// What the device should have.
    pub desired: Map<String, Value>,
    /// What the device says it has.
    pub reported: Map<String, Value>,
}

impl Twin {
    pub(crate) fn parse(mut json: Value) -> Result<Self, String> {
        let text = |name: &str| {
            let text = json[name].as_str();
            text.map(str::to_owned)
                .ok_or_else(|| format!("a twin has no {name}"))
        };
        let (device_id, etag) = (text("deviceId")?, text("etag")?);
        Ok(Self {
            device_id,
            etag: etag.trim_matches('"').to_owned(),
            version: json["version"].as_u64().unwrap_or_default(),
            tags: section(json["tags"].take(), "tags")?,
            desired: section(json["properties"]["desired"].take(), "desired")?,
            reported: section(json["properties"]["reported"].take(), "reported")?,
        })
    }
}

/// Without what the hub writes itself: `$metadata` and `$version`.
fn section(value: Value, name: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(mut map) => {
            map.retain(|key, _| !key.starts_with('$'));
            Ok(map)
        }
        _ => Err(format!("a twin's {name} is no object")),
    }
}
