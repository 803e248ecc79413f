//! The interface: paths, statuses and headers. It decides nothing about places.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use stamp_http::{Access, Handler, Refusal, Reply, Request};
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::Environment;
use stamp_telemetry::{ProvisionMetrics, ProvisionRoute};

use crate::allocator::{Allocator, Located};
use crate::decide;
use crate::webhook::Registration;
use crate::{Reason, Refused};

/// The description of the interface, in JSON.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// Says where an answer comes from: `booked`, `kept`, `moved`, `memory` or `reserve`.
const ORIGIN: &str = "x-stamp-origin";
/// Seconds until somebody who met an outage should ask again.
const RETRY_AFTER_S: &str = "5";

/// The handler of the server.
pub(crate) struct Api {
    pub(crate) allocator: Arc<Allocator>,
    pub(crate) access: Arc<Access>,
    pub(crate) metrics: ProvisionMetrics,
    /// How long a look-up may be kept by whoever asked.
    pub(crate) cache_max: Duration,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Allocate,
    Tenant(&'a str),
    Device(&'a str),
    OpenApi,
    Other,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        let mut parts = path.split('/');
        let parts = [(); 6].map(|()| parts.next());
        match parts {
            [Some(""), Some("openapi.json"), None, ..] => Self::OpenApi,
            [Some(""), Some("v1"), Some("allocate"), None, ..] => Self::Allocate,
            [
                Some(""),
                Some("v1"),
                Some("tenants"),
                Some(id),
                Some("stamp"),
                None,
            ] => Self::Tenant(id),
            [
                Some(""),
                Some("v1"),
                Some("devices"),
                Some(id),
                Some("stamp"),
                None,
            ] => Self::Device(id),
            _ => Self::Other,
        }
    }

    fn kind(self) -> ProvisionRoute {
        match self {
            Self::Allocate => ProvisionRoute::Allocate,
            Self::Tenant(_) => ProvisionRoute::Tenant,
            Self::Device(_) => ProvisionRoute::Device,
            Self::OpenApi => ProvisionRoute::OpenApi,
            Self::Other => ProvisionRoute::Other,
        }
    }

    fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Allocate => &["POST"],
            _ => &["GET", "HEAD"],
        }
    }
}

/// An answer and how it is counted.
type Answered = (Reply, &'static str);

#[async_trait]
impl Handler for Api {
    async fn answer(&self, request: Request) -> Reply {
        let began = Instant::now();
        let route = Route::of(&request.path);
        let (reply, outcome) = match self.dispatch(route, &request).await {
            Ok(answered) => answered,
            Err(refused) => {
                let code = refused.reason.code();
                tracing::info!(route = ?route.kind(), code, message = refused.message, "refused");
                (refusal(&refused, route), code)
            }
        };
        self.metrics
            .answered(route.kind(), outcome, began.elapsed());
        reply
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let refused = match refusal {
            Refusal::BodyTooLarge => Refused::new(Reason::TooLarge, "the body is too large"),
            Refusal::BodyBroken => Refused::new(Reason::BadRequest, "the body broke off"),
            Refusal::TooSlow => {
                Refused::new(Reason::TooSlow, "it took too long; asking again is safe")
            }
        };
        let code = refused.reason.code();
        self.metrics
            .answered(ProvisionRoute::Other, code, Duration::ZERO);
        self::refusal(&refused, Route::Other)
    }
}

impl Api {
    async fn dispatch(&self, route: Route<'_>, request: &Request) -> Result<Answered, Refused> {
        if route == Route::Other {
            let message = format!("there is nothing at {}", cut(&request.path));
            return Err(Refused::new(Reason::NotFound, message));
        }
        if !route.methods().contains(&request.method.as_str()) {
            let message = format!("use {} here", route.methods().join(" or "));
            return Err(Refused::new(Reason::MethodNotAllowed, message));
        }
        if route == Route::OpenApi {
            let reply = json_reply(200, OPENAPI.to_owned());
            return Ok((
                reply.with_header("cache-control", "public, max-age=3600"),
                "served",
            ));
        }
        if !self.access.lets_in(request) {
            return Err(Refused::new(Reason::Unauthorized, Access::HINT));
        }
        match route {
            Route::Allocate => self.allocate(request).await,
            Route::Tenant(id) => self.tenant(request, id).await,
            Route::Device(id) => self.device(request, id).await,
            Route::OpenApi | Route::Other => Err(Refused::new(Reason::NotFound, "not here")),
        }
    }

    async fn allocate(&self, request: &Request) -> Result<Answered, Refused> {
        let registration = Registration::parse(&request.body)?;
        let allocation = self.allocator.allocate(&registration).await?;
        let answer = registration.answer(&allocation.hub, &allocation.tenant, &allocation.stamp);
        let origin = allocation.origin.as_str();
        let reply = json_reply(200, answer.to_string())
            .with_header("cache-control", "no-store")
            .with_header(ORIGIN, origin);
        Ok((reply, origin))
    }

    async fn tenant(&self, request: &Request, id: &str) -> Result<Answered, Refused> {
        let id = decoded(id)?;
        let id = TenantId::parse(&id).map_err(|error| bad(error.to_string()))?;
        let snapshot = self.allocator.snapshot();
        let tenant = snapshot.fleet.tenant(&id);
        // Nobody of that name: here it is a page that is not there, not a right that is missing.
        let tenant = tenant.ok_or_else(|| {
            Refused::new(
                Reason::NotPlaced,
                format!("the catalogue has no tenant {id}"),
            )
        })?;
        let environment = match environment(request.query.as_deref())? {
            Some(environment) => environment,
            None => snapshot.environment_of(tenant),
        };
        let located = self.allocator.locate_tenant(&id, environment).await?;
        self.located(request, &located, None)
    }

    async fn device(&self, request: &Request, id: &str) -> Result<Answered, Refused> {
        let id = decoded(id)?;
        let id = DeviceId::parse(id.as_str().into()).map_err(|error| bad(error.to_string()))?;
        let located = self.allocator.locate_device(&id).await?;
        self.located(request, &located, Some(&id))
    }

    fn located(
        &self,
        request: &Request,
        located: &Located,
        device: Option<&DeviceId>,
    ) -> Result<Answered, Refused> {
        let snapshot = self.allocator.snapshot();
        let known = &located.known;
        let stamp = decide::stamp(&snapshot, &known.stamp)?;
        let body = Location {
            device: device.map(DeviceId::as_str),
            tenant: &known.tenant,
            environment: stamp.environment,
            stamp: &stamp.id,
            leaving: known.leaving.as_ref(),
            region: &stamp.region,
            geography: &stamp.geography,
            iot_hub: &stamp.iot_hub.name,
            event_hub: EventHubLocation {
                namespace: &stamp.event_hub.namespace,
                name: &stamp.event_hub.hub,
            },
            since_us: known.since_us,
        };
        let body = json!(body).to_string();
        let tag = entity_tag(&body);
        // What is answered without the database may be old already.
        let fresh = located.origin == stamp_telemetry::AnswerOrigin::Kept;
        let seconds = if fresh { self.cache_max.as_secs() } else { 0 };
        let headers = |reply: Reply| {
            reply
                .with_header("etag", tag.clone())
                .with_header("cache-control", format!("private, max-age={seconds}"))
                .with_header("vary", "x-functions-key")
                .with_header(ORIGIN, located.origin.as_str())
        };
        if has_tag(request, &tag) {
            return Ok((headers(Reply::new(304, "")), "unchanged"));
        }
        Ok((headers(json_reply(200, body)), located.origin.as_str()))
    }
}

/// Where somebody is, for routers and gateways.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    tenant: &'a TenantId,
    environment: Environment,
    stamp: &'a StampId,
    leaving: Option<&'a StampId>,
    region: &'a str,
    geography: &'a str,
    iot_hub: &'a str,
    event_hub: EventHubLocation<'a>,
    since_us: i64,
}

#[derive(Debug, Serialize)]
struct EventHubLocation<'a> {
    namespace: &'a str,
    name: &'a str,
}

fn refusal(refused: &Refused, route: Route<'_>) -> Reply {
    let reason = refused.reason;
    let body = json!({ "code": reason.code(), "message": refused.message });
    let reply =
        json_reply(reason.status(), body.to_string()).with_header("cache-control", "no-store");
    match reason {
        Reason::Unauthorized => {
            reply.with_header("www-authenticate", "ApiKey realm=\"stampworks\"")
        }
        Reason::MethodNotAllowed => reply.with_header("allow", route.methods().join(", ")),
        _ if reason.status() == 503 => reply.with_header("retry-after", RETRY_AFTER_S),
        _ => reply,
    }
}

fn json_reply(status: u16, body: String) -> Reply {
    Reply::new(status, body).with_header("content-type", "application/json")
}

/// Changes when anything of the body does.
fn entity_tag(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    let hex: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

/// `If-None-Match`, by the weak comparison (RFC 9110, section 13.1.2).
fn has_tag(request: &Request, tag: &str) -> bool {
    let lists = request.headers("if-none-match");
    let tags = lists.flat_map(|list| list.split(','));
    tags.map(str::trim)
        .any(|given| given == "*" || given.trim_start_matches("W/") == tag)
}

fn environment(query: Option<&str>) -> Result<Option<Environment>, Refused> {
    let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
    let Some(word) = pairs.find_map(|pair| pair.strip_prefix("environment=")) else {
        return Ok(None);
    };
    let known = Environment::parse(word);
    known
        .map(Some)
        .ok_or_else(|| bad("environment is neither test nor production"))
}

fn decoded(segment: &str) -> Result<String, Refused> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Into::into)
        .map_err(|_| bad("the path is not UTF-8"))
}

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(Reason::BadRequest, message)
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_thing_or_nothing() {
        for (path, route) in [
            ("/v1/allocate", Route::Allocate),
            ("/v1/tenants/contoso/stamp", Route::Tenant("contoso")),
            ("/v1/devices/a%3Ab/stamp", Route::Device("a%3Ab")),
            ("/openapi.json", Route::OpenApi),
            ("/v1/allocate/", Route::Other),
            ("/v1/tenants//stamp", Route::Tenant("")),
            ("/v1/tenants/contoso/stamp/x", Route::Other),
            ("/V1/allocate", Route::Other),
            ("*", Route::Other),
            ("", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_tag_that_the_caller_has_is_found_in_any_list() {
        let tag = entity_tag("x");
        let ask = |value: &str| Request::new("GET", "/").with_header("if-none-match", value);
        for has in [
            "*",
            &tag,
            &format!("W/{tag}"),
            &format!("\"a\", {tag} ,\"b\""),
        ] {
            assert!(has_tag(&ask(has), &tag), "{has}");
        }
        for has_not in ["", "\"a\"", &entity_tag("y")] {
            assert!(!has_tag(&ask(has_not), &tag), "{has_not}");
        }
    }

    /// The description is written by hand, so that it is a promise and not an echo.
    #[test]
    fn the_description_names_every_path_and_every_code() {
        let description: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let paths: Vec<&String> = description["paths"].as_object().unwrap().keys().collect();
        let expected = [
            "/openapi.json",
            "/v1/allocate",
            "/v1/devices/{device}/stamp",
            "/v1/tenants/{tenant}/stamp",
        ];
        assert_eq!(paths, expected);
        let codes = &description["components"]["schemas"]["Refusal"]["properties"]["code"]["enum"];
        assert_eq!(*codes, json!(Reason::ALL.map(Reason::code)));
    }

    #[test]
    fn every_code_is_explained() {
        let page = include_str!("../../../docs/provisioning.md");
        for reason in Reason::ALL {
            let row = format!("\n| `{}` | {} |", reason.code(), reason.status());
            assert!(page.contains(&row), "no row {row}");
        }
    }
}
