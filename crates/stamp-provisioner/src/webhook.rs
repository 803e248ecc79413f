//! What DPS asks, and how it is answered: the contract of custom allocation, read from bytes and
//! written to JSON. No I/O.
//!
//! The published contract spells names in two ways (`currentIotHubHostName`,
//! `currentIoTHubHostName`), so names are read without regard to case. Nothing of the device's own
//! payload is looked at.

use serde_json::{Map, Value, json};
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::Environment;

use crate::Refused;

/// Most hubs that are looked at; DPS links 50 (its limits).
pub const LINKED_HUBS_MAX: usize = 100;
/// Longest host name (RFC 1035).
const HOST_CHARS_MAX: usize = 253;

/// What DPS says about a device that asks for a hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// The device's name in the hub it gets.
    pub device: DeviceId,
    /// The hub that DPS assigned it to last, in lower case.
    pub current_hub: Option<String>,
    /// The hubs it may be assigned to, as sent.
    pub linked_hubs: Vec<String>,
    /// Tag `tenant` of the enrolment's initial twin: the operator's word, not the device's.
    pub enrolled_tenant: Option<TenantId>,
    /// Tag `environment` of the same.
    pub enrolled_environment: Option<Environment>,
    /// The enrolment's initial twin.
    pub initial_twin: Map<String, Value>,
}

impl Registration {
    /// Reads the body of a call.
    ///
    /// # Errors
    /// `bad-request` with what is wrong where.
    pub fn parse(body: &[u8]) -> Result<Self, Refused> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| bad(format!("the body is not JSON: {error}")))?;
        let context = object(&body, "deviceRuntimeContext")?
            .ok_or_else(|| bad("there is no deviceRuntimeContext"))?;
        let registered = text(context, "registrationId")?;
        let registered = device_id(registered.ok_or_else(|| bad("there is no registrationId"))?)?;
        let individual = object(&body, "individualEnrollment")?;
        let group = object(&body, "enrollmentGroup")?;
        let enrollment = match (individual, group) {
            (Some(enrollment), None) | (None, Some(enrollment)) => enrollment,
            (None, None) => {
                return Err(bad(
                    "there is neither individualEnrollment nor enrollmentGroup",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(bad(
                    "there are both individualEnrollment and enrollmentGroup",
                ));
            }
        };
        // An individual enrolment may give the device another name than its registration has.
        let named = individual.map(|individual| text(individual, "deviceId"));
        let device = match named.transpose()?.flatten() {
            Some(named) => device_id(named)?,
            // Registration ids have no case, device ids do: in whatever spelling a device asks again,
            // it is the one that DPS has already.
            None => match text(context, "currentDeviceId")? {
                Some(current) if current.eq_ignore_ascii_case(registered.as_str()) => {
                    device_id(current)?
                }
                _ => registered,
            },
        };
        let initial_twin = object(enrollment, "initialTwin")?;
        let tags = initial_twin
            .map(|twin| object(twin, "tags"))
            .transpose()?
            .flatten();
        let tag = |name: &str| {
            tags.map(|tags| text(tags, name))
                .transpose()
                .map(Option::flatten)
        };
        let tenant = tag("tenant")?.map(TenantId::parse).transpose();
        let tenant = tenant.map_err(|error| bad(format!("initialTwin.tags.tenant: {error}")))?;
        let environment = tag("environment")?.map(|word| {
            let known = Environment::parse(word);
            known.ok_or_else(|| bad("initialTwin.tags.environment is neither test nor production"))
        });
        let initial_twin = initial_twin.and_then(Value::as_object).cloned();
        Ok(Self {
            device,
            current_hub: text(context, "currentIotHubHostName")?.map(str::to_ascii_lowercase),
            linked_hubs: linked_hubs(&body)?,
            enrolled_tenant: tenant,
            enrolled_environment: environment.transpose()?,
            initial_twin: initial_twin.unwrap_or_default(),
        })
    }

    /// The answer that sends the device to a hub. The twin is the enrolment's with two tags more,
    /// because DPS takes the answer's instead of the enrolment's.
    #[must_use]
    pub fn answer(&self, hub: &str, tenant: &TenantId, stamp: &StampId) -> Value {
        let mut twin = self.initial_twin.clone();
        let mut tags = match twin.remove("tags") {
            Some(Value::Object(tags)) => tags,
            _ => Map::new(),
        };
        tags.insert("tenant".into(), tenant.as_str().into());
        tags.insert("stamp".into(), stamp.as_str().into());
        twin.insert("tags".into(), tags.into());
        let properties = twin.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.entry("desired").or_insert_with(|| json!({}));
        }
        // As DPS spelled it: it compares.
        let linked = self.linked_hubs.iter();
        let spelled = linked
            .into_iter()
            .find(|linked| linked.eq_ignore_ascii_case(hub));
        json!({
            "iotHubHostName": spelled.map_or(hub, String::as_str),
            "initialTwin": twin,
        })
    }
}

fn linked_hubs(body: &Value) -> Result<Vec<String>, Refused> {
    let Some(Value::Array(hubs)) = member(body, "linkedHubs") else {
        return Err(bad("there is no list linkedHubs"));
    };
    if hubs.is_empty() || hubs.len() > LINKED_HUBS_MAX {
        return Err(bad(format!(
            "linkedHubs has {} hubs; must be 1 to {LINKED_HUBS_MAX}",
            hubs.len()
        )));
    }
    let host = |(index, hub): (usize, &Value)| {
        let text = hub.as_str().filter(|text| is_host(text));
        text.map(str::to_owned)
            .ok_or_else(|| bad(format!("linkedHubs[{index}] is no host name")))
    };
    hubs.iter().enumerate().map(host).collect()
}

fn is_host(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    !text.is_empty() && text.len() <= HOST_CHARS_MAX && text.bytes().all(good)
}

/// A member by its name in any case; of several, the one that is spelled as here. `null` is none.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    let exact = members.get(name);
    let found = exact.or_else(|| {
        let mut others = members.iter();
        let found = others.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    });
    found.filter(|value| !value.is_null())
}

fn object<'a>(value: &'a Value, name: &str) -> Result<Option<&'a Value>, Refused> {
    match member(value, name) {
        Some(found) if !found.is_object() => Err(bad(format!("{name} is no object"))),
        found => Ok(found),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Result<Option<&'a str>, Refused> {
    match member(value, name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(bad(format!("{name} is no text"))),
    }
}

fn device_id(text: &str) -> Result<DeviceId, Refused> {
    DeviceId::parse(text.into()).map_err(|error| bad(error.to_string()))
}

fn bad(why: impl Into<String>) -> Refused {
    Refused::new(crate::Reason::BadRequest, why)
}

#[cfg(test)]
mod tests;
