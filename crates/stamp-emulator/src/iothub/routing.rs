//! Message routing: which endpoints an event goes to, and what is added on the way.

use serde_json::Value;
use stamp_model::MessageSource;

use super::condition::{Condition, follow};
use super::device::Device;
use crate::{EmulatorError, Hub, OutgoingEvent};

/// Routes of a paid hub (IoT Hub quotas).
const ROUTES_MAX: usize = 100;
/// Endpoints of a paid hub beside the built-in one.
const ENDPOINTS_MAX: usize = 10;
/// Enrichments of a paid hub.
const ENRICHMENTS_MAX: usize = 10;
/// The built-in endpoint's name.
pub(crate) const BUILT_IN: &str = "events";
/// Message and enrichments together; the service drops what is larger.
const ROUTED_BYTES_MAX: usize = 256 * 1024;

/// Where the events of an IoT Hub go.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    /// The built-in endpoint, `events`. Without one, what would go there is counted and dropped.
    pub built_in: Option<Hub>,
    /// Event Hubs beside it, by name. At most 10.
    pub endpoints: Vec<(String, Hub)>,
    /// At most 100. An event goes once to each endpoint that any route names.
    pub routes: Vec<Route>,
    /// Whether telemetry that no route takes goes to the built-in endpoint. It always does while
    /// there is no route.
    pub fallback: bool,
    /// What is added to each event. At most 10.
    pub enrichments: Vec<Enrichment>,
}

/// What a route takes events of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteSource {
    /// Telemetry from devices.
    DeviceMessages,
    /// Changes of twins.
    TwinChangeEvents,
    /// Devices registered and deleted.
    DeviceLifecycleEvents,
    /// Devices connected and disconnected.
    DeviceConnectionStateEvents,
}

impl RouteSource {
    fn matches(self, source: &MessageSource) -> bool {
        let wanted = match self {
            Self::DeviceMessages => MessageSource::Telemetry,
            Self::TwinChangeEvents => MessageSource::TwinChange,
            Self::DeviceLifecycleEvents => MessageSource::DeviceLifecycle,
            Self::DeviceConnectionStateEvents => MessageSource::DeviceConnectionState,
        };
        *source == wanted
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What it takes.
    pub source: RouteSource,
    /// Which of it, in the query language of IoT Hub's routes; `true` takes all.
    pub condition: String,
    /// The endpoint's name; `events` is the built-in one.
    pub endpoint: String,
}

impl Route {
    /// All events of a source to an endpoint.
    #[must_use]
    pub fn all(source: RouteSource, endpoint: &str) -> Self {
        Self {
            source,
            condition: "true".to_owned(),
            endpoint: endpoint.to_owned(),
        }
    }
}

/// An application property that the hub adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrichment {
    /// The property's name: letters, digits, `-`, `_`, `.`.
    pub key: String,
    /// A text, `$iothubname`, or a path: `$twin.tags.*`, `$twin.properties.desired.*`,
    /// `$twin.properties.reported.*`. A path that leads to nothing arrives as the text it is.
    pub value: String,
    /// For which endpoints.
    pub endpoints: Vec<String>,
}

/// A routing that was checked.
#[derive(Debug)]
pub(crate) struct Routes {
    routing: Routing,
    conditions: Vec<Condition>,
}

impl Routes {
    pub(crate) fn new(routing: Routing) -> Result<Self, EmulatorError> {
        let bad = |text: String| EmulatorError::Config(format!("routing: {text}"));
        let most = [
            ("routes", routing.routes.len(), ROUTES_MAX),
            ("endpoints", routing.endpoints.len(), ENDPOINTS_MAX),
            ("enrichments", routing.enrichments.len(), ENRICHMENTS_MAX),
        ];
        if let Some((what, _, max)) = most.into_iter().find(|(_, count, max)| count > max) {
            return Err(bad(format!("more than {max} {what}")));
        }
        let known = |name: &str| {
            let own = name == BUILT_IN && routing.built_in.is_some();
            own || routing
                .endpoints
                .iter()
                .any(|(endpoint, _)| endpoint == name)
        };
        let named = routing.routes.iter().map(|route| &route.endpoint);
        let enriched = routing.enrichments.iter().flat_map(|e| &e.endpoints);
        if let Some(name) = named.chain(enriched).find(|name| !known(name)) {
            return Err(bad(format!("there is no endpoint {name:?}")));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if let Some(wrong) = routing
            .enrichments
            .iter()
            .find(|e| e.key.is_empty() || !e.key.bytes().all(good))
        {
            return Err(bad(format!("{:?} is no key of an enrichment", wrong.key)));
        }
        let conditions = routing.routes.iter().map(|route| {
            Condition::parse(&route.condition)
                .map_err(|error| bad(format!("condition {:?}: {error}", route.condition)))
        });
        Ok(Self {
            conditions: conditions.collect::<Result<_, _>>()?,
            routing,
        })
    }

    /// Sends an event to every endpoint it belongs to; gives to how many. `device` is the one it is
    /// about, as it is now.
    pub(crate) fn deliver(&self, hub_name: &str, device: &Device, event: &OutgoingEvent) -> usize {
        let mut names = self.endpoints_for(device, event);
        names.dedup();
        let delivered = names.iter().filter(|name| {
            let endpoint = self.endpoint(name);
            endpoint.is_some_and(|endpoint| self.send(endpoint, name, hub_name, device, event))
        });
        delivered.count()
    }

    fn endpoints_for<'a>(&'a self, device: &Device, event: &OutgoingEvent) -> Vec<&'a str> {
        let routes = self.routing.routes.iter().zip(&self.conditions);
        let body = json_body(event);
        let resolve = |path: &str| resolve(path, device, event, body.as_ref());
        let mut names: Vec<&str> = routes
            .filter(|(route, condition)| {
                route.source.matches(&event.hub.source) && condition.holds(&resolve)
            })
            .map(|(route, _)| route.endpoint.as_str())
            .collect();
        let unrouted = names.is_empty() && event.hub.source == MessageSource::Telemetry;
        if unrouted && (self.routing.fallback || self.routing.routes.is_empty()) {
            names.push(BUILT_IN);
        }
        names.sort_unstable();
        names
    }

    fn endpoint(&self, name: &str) -> Option<&Hub> {
        if name == BUILT_IN {
            return self.routing.built_in.as_ref();
        }
        let mut endpoints = self.routing.endpoints.iter();
        endpoints
            .find(|(known, _)| known == name)
            .map(|(_, hub)| hub)
    }

    fn send(
        &self,
        endpoint: &Hub,
        name: &str,
        hub_name: &str,
        device: &Device,
        event: &OutgoingEvent,
    ) -> bool {
        let mut event = event.clone();
        let enrichments = self.routing.enrichments.iter();
        for enrichment in enrichments.filter(|e| e.endpoints.iter().any(|n| n == name)) {
            let value = enriched(&enrichment.value, hub_name, device);
            let key = enrichment.key.as_str();
            // One property of a name survives, and the hub writes last.
            event
                .properties
                .retain(|(known, _)| !known.eq_ignore_ascii_case(key));
            event.properties.push((key.into(), value.into()));
        }
        if event.size() > ROUTED_BYTES_MAX {
            tracing::warn!(device = %device.id, "an event is too large with its enrichments");
            return false;
        }
        match endpoint.publish_keyed(&device.id, event) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, device = %device.id, "an event cannot be routed");
                false
            }
        }
    }
}

/// The value of an enrichment. A path that leads to nothing stays as it is written.
fn enriched(value: &str, hub_name: &str, device: &Device) -> String {
    if value == "$iothubname" {
        return hub_name.to_owned();
    }
    let Some(path) = value.strip_prefix("$twin.") else {
        return value.to_owned();
    };
    match twin_value(device, path) {
        Some(Value::String(text)) => text,
        Some(found) if !found.is_null() => found.to_string(),
        _ => value.to_owned(),
    }
}

fn twin_value(device: &Device, path: &str) -> Option<Value> {
    let twin = serde_json::json!({
        "tags": device.twin.tags,
        "properties": {
            "desired": device.twin.desired.values(),
            "reported": device.twin.reported.values(),
        },
    });
    follow(&twin, path)
}

/// The body, when it says that it is JSON in UTF-8.
fn json_body(event: &OutgoingEvent) -> Option<Value> {
    let is = |text: &Option<stamp_model::Text>, wanted: &str| {
        let text = text.as_deref().unwrap_or_default();
        text.eq_ignore_ascii_case(wanted)
    };
    let content_type = event.content_type.as_deref().unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let readable =
        kind.eq_ignore_ascii_case("application/json") && is(&event.content_encoding, "utf-8");
    readable
        .then(|| serde_json::from_slice(&event.body).ok())
        .flatten()
}

/// The value of a name in a route's condition.
fn resolve(
    path: &str,
    device: &Device,
    event: &OutgoingEvent,
    body: Option<&Value>,
) -> Option<Value> {
    if let Some(path) = path.strip_prefix("$body.") {
        return follow(body?, path);
    }
    if let Some(path) = path.strip_prefix("$twin.") {
        return twin_value(device, path);
    }
    let text = |text: &Option<stamp_model::Text>| Some(Value::from(&**text.as_ref()?));
    match path {
        "$connectionDeviceId" => text(&event.hub.device_id),
        "$contentType" => text(&event.content_type),
        "$contentEncoding" => text(&event.content_encoding),
        "$messageId" => text(&event.message_id),
        _ => {
            let mut properties = event.properties.iter();
            let found = properties.find(|(name, _)| name.eq_ignore_ascii_case(path));
            found.map(|(_, value)| Value::from(&**value))
        }
    }
}
