//! The hub's HTTPS API: which call is which, who may make it, and its answer.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::config::Permission;
use super::device::Wish;
use super::error::HubError;
use super::events::Telemetry;
use super::hub::{HubCore, Throttle};
use super::registry::Match;
use super::twin::Change;
use crate::faults::{self, Operation};
use crate::http::{Api, Call, Reply};
use crate::time;

/// Most devices of one page.
const PAGE_MAX: usize = 1_000;
/// Longest wait for a method's answer (IoT Hub: 5 to 300 s).
const METHOD_MAX: Duration = Duration::from_secs(300);
const METHOD_DEFAULT_S: u64 = 30;

/// A call, recognised by its method and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    ListDevices,
    Bulk,
    Query,
    Device(&'a str),
    Twin(&'a str),
    Desired(&'a str),
    MethodCall(&'a str),
    DeviceStatistics,
    ServiceStatistics,
    Telemetry(&'a str),
}

impl<'a> Route<'a> {
    fn of(call: &'a Call) -> Option<Self> {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let method = &call.method;
        Some(match path[..] {
            ["devices"] if method == Method::GET => Self::ListDevices,
            ["devices"] if method == Method::POST => Self::Bulk,
            ["devices", "query"] if method == Method::POST => Self::Query,
            ["devices", id] => Self::Device(id),
            ["devices", id, "messages", "events"] if method == Method::POST => Self::Telemetry(id),
            ["twins", id] => Self::Twin(id),
            ["twins", id, "properties", "desired"] if method == Method::PUT => Self::Desired(id),
            ["twins", id, "methods"] if method == Method::POST => Self::MethodCall(id),
            ["statistics", "devices"] => Self::DeviceStatistics,
            ["statistics", "service"] => Self::ServiceStatistics,
            _ => return None,
        })
    }

    fn operation(self) -> Operation {
        match self {
            Self::Query => Operation::Query,
            Self::Twin(_) | Self::Desired(_) | Self::MethodCall(_) => Operation::Twin,
            Self::Telemetry(_) => Operation::Telemetry,
            _ => Operation::Registry,
        }
    }

    fn throttle(self) -> Option<Throttle> {
        match self.operation() {
            Operation::Query => Some(Throttle::Queries),
            Operation::Twin => Some(Throttle::Twins),
            Operation::Registry => Some(Throttle::Registry),
            // Counted where messages are taken, over HTTPS and MQTT alike.
            _ => None,
        }
    }

    /// Any of these opens it.
    fn permissions(self, method: &Method) -> &'static [Permission] {
        match self {
            Self::Twin(_) | Self::Desired(_) | Self::MethodCall(_) => &[Permission::ServiceConnect],
            Self::Query => &[
                Permission::ServiceConnect,
                Permission::RegistryRead,
                Permission::RegistryWrite,
            ],
            Self::Bulk => &[Permission::RegistryWrite],
            Self::Device(_) if method != Method::GET => &[Permission::RegistryWrite],
            _ => &[Permission::RegistryRead, Permission::RegistryWrite],
        }
    }
}

impl Api for HubCore {
    async fn answer(self: &Arc<Self>, call: Call) -> Option<Reply> {
        let tracking = self.tracking_id();
        let met = Route::of(&call).map(|route| self.faults.meet(route.operation()));
        let (refusal, delay, lose_reply) = match met {
            Some(met) => (met.refusal, met.delay, met.lose_reply),
            None => (None, Duration::ZERO, false),
        };
        faults::wait(delay).await;
        let done = match refusal {
            Some(refusal) => Err(HubError::from_fault(refusal)),
            None => self.call(&call).await,
        };
        let reply = done.unwrap_or_else(|error| error.reply(&tracking, &time::utc(self.now_us())));
        (!lose_reply).then(|| reply.with("x-ms-request-id", tracking))
    }
}

impl HubCore {
    async fn call(&self, call: &Call) -> Result<Reply, HubError> {
        let route = Route::of(call).ok_or_else(HubError::no_such_call)?;
        let token = call.header("authorization");
        if let Route::Telemetry(id) = route {
            return self.http_telemetry(id, token, call);
        }
        self.authorize_service(token, route.permissions(&call.method))?;
        if let Some(throttle) = route.throttle() {
            self.throttle(throttle)?;
        }
        match route {
            Route::ListDevices => {
                let top = call.query("top").and_then(|text| text.parse().ok());
                let most = top.unwrap_or(PAGE_MAX).min(PAGE_MAX);
                Ok(Reply::ok(&self.list(most).into()))
            }
            Route::Bulk => {
                let (answer, well) = self.bulk(&body(call)?)?;
                let status = if well {
                    StatusCode::OK
                } else {
                    StatusCode::BAD_REQUEST
                };
                Ok(Reply::json(status, &answer))
            }
            Route::Query => self.query_page(call),
            Route::Device(id) => self.device_call(id, call),
            Route::Twin(id) => self.twin_call(id, call),
            Route::Desired(id) => {
                let wrapped = json!({ "properties": { "desired": body(call)? } });
                self.change(id, call, &wrapped, true)
            }
            Route::MethodCall(id) => self.method_call(id, call).await,
            Route::DeviceStatistics => Ok(Reply::ok(&self.statistics())),
            Route::ServiceStatistics => {
                let connected = self.connected_count();
                Ok(Reply::ok(&json!({ "connectedDeviceCount": connected })))
            }
            Route::Telemetry(_) => Err(HubError::no_such_call()),
        }
    }

    fn http_telemetry(&self, id: &str, token: &str, call: &Call) -> Result<Reply, HubError> {
        if call.header("content-type") == "application/vnd.microsoft.iothub.json" {
            return Err(HubError::unsupported("batches are not taken over HTTPS"));
        }
        let proof = self.authorize_device(id, token)?;
        self.telemetry(id, Telemetry::from_call(call), proof)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    fn query_page(&self, call: &Call) -> Result<Reply, HubError> {
        let body = body(call)?;
        let text = body["query"].as_str().unwrap_or_default();
        let (items, item_type) = self.query(text)?;
        let from = call.continuation();
        let from = from.ok_or_else(|| HubError::argument("x-ms-continuation is none of ours"))?;
        Ok(Reply::page(
            &items,
            from,
            call.page_size(PAGE_MAX),
            item_type,
        ))
    }

    fn device_call(&self, id: &str, call: &Call) -> Result<Reply, HubError> {
        match (&call.method, call.if_match()) {
            (&Method::GET, _) => self.get(id),
            (&Method::DELETE, etag) => {
                self.delete(id, Match::new(etag.unwrap_or("*")))?;
                return Ok(Reply::empty(StatusCode::NO_CONTENT));
            }
            (&Method::PUT, etag) => {
                let body = body(call)?;
                if body["deviceId"].as_str().is_some_and(|named| named != id) {
                    return Err(HubError::argument("deviceId is not the one of the address"));
                }
                let wish = Wish::parse(&body)?;
                match etag {
                    None => self.create(id, wish, &Change::default()),
                    Some(etag) => self.update(id, wish, Match::new(etag)),
                }
            }
            _ => return Err(HubError::no_such_call()),
        }
        .map(|device| {
            let etag = format!("\"{}\"", device.etag_text());
            Reply::ok(&device.json(&self.host)).with("etag", etag)
        })
    }

    fn twin_call(&self, id: &str, call: &Call) -> Result<Reply, HubError> {
        match call.method {
            Method::GET => {
                let device = self.get(id)?;
                let etag = format!("\"{}\"", device.twin_etag_text());
                Ok(Reply::ok(&device.twin_json()).with("etag", etag))
            }
            Method::PATCH => self.change(id, call, &body(call)?, false),
            Method::PUT => self.change(id, call, &body(call)?, true),
            _ => Err(HubError::no_such_call()),
        }
    }

    fn change(
        &self,
        id: &str,
        call: &Call,
        body: &Value,
        replace: bool,
    ) -> Result<Reply, HubError> {
        let only = Match::new(call.if_match().unwrap_or("*"));
        let device = self.change_twin(id, &Change::parse(body)?, replace, only)?;
        let etag = format!("\"{}\"", device.twin_etag_text());
        Ok(Reply::ok(&device.twin_json()).with("etag", etag))
    }

    async fn method_call(&self, id: &str, call: &Call) -> Result<Reply, HubError> {
        let body = body(call)?;
        let name = body["methodName"].as_str().unwrap_or_default();
        if name.is_empty() || name.contains(['/', '#', '+', '?']) {
            return Err(HubError::argument("methodName is missing or is none"));
        }
        let limit_s = body["responseTimeoutInSeconds"].as_u64();
        let limit = Duration::from_secs(limit_s.unwrap_or(METHOD_DEFAULT_S)).min(METHOD_MAX);
        let (number, answer) = self.call_method(id, name, &body["payload"])?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok((status, payload))) => {
                Ok(Reply::ok(&json!({ "status": status, "payload": payload })))
            }
            _ => {
                self.forget_method(number);
                Err(HubError::method_timeout(id))
            }
        }
    }
}

fn body(call: &Call) -> Result<Value, HubError> {
    call.json()
        .ok_or_else(|| HubError::argument("the body is not JSON"))
}
