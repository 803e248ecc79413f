//! The service's HTTPS APIs, for devices and for service programs: which call is which, who may make
//! it, and its answer.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::enrollment::Kind;
use super::error::DpsError;
use super::registration::Status;
use super::service::DpsCore;
use crate::faults::{self, Operation};
use crate::http::{Api, Call, Reply};
use crate::time;

/// Records of one page.
const PAGE_MAX: usize = 1_000;
/// Entries of a bulk request (REST API of the service).
const BULK_MAX: usize = 10;

/// A call, recognised by its method and path. Paths have no case but for ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Register(&'a str, &'a str),
    Operation(&'a str, &'a str, &'a str),
    LookUp(&'a str, &'a str),
    Bulk(Kind),
    Query(Kind),
    Record(Kind, &'a str),
    Attestation(Kind, &'a str),
    Registrations(&'a str),
    Registration(&'a str),
}

impl<'a> Route<'a> {
    fn of(call: &'a Call) -> Option<Self> {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let is = |part: &str, name: &str| part.eq_ignore_ascii_case(name);
        let post = call.method == Method::POST;
        if let [first, ..] = path[..]
            && let Some(kind) = kind(first)
        {
            return match path[1..] {
                [] if post => Some(Self::Bulk(kind)),
                [query] if post && is(query, "query") => Some(Self::Query(kind)),
                [id] if !post => Some(Self::Record(kind, id)),
                [id, what] if post && is(what, "attestationmechanism") => {
                    Some(Self::Attestation(kind, id))
                }
                _ => None,
            };
        }
        match path[..] {
            [first, group, query] if post && is(first, "registrations") && is(query, "query") => {
                Some(Self::Registrations(group))
            }
            [first, id] if !post && is(first, "registrations") => Some(Self::Registration(id)),
            [scope, r, id] if post && is(r, "registrations") => Some(Self::LookUp(scope, id)),
            [scope, r, id, what] if is(r, "registrations") && is(what, "register") => {
                (call.method == Method::PUT).then_some(Self::Register(scope, id))
            }
            [scope, r, id, what, operation] if is(r, "registrations") && is(what, "operations") => {
                (call.method == Method::GET).then_some(Self::Operation(scope, id, operation))
            }
            _ => None,
        }
    }

    fn operation(self) -> Operation {
        match self {
            Self::Register(..) => Operation::Register,
            Self::Operation(..) | Self::LookUp(..) => Operation::Poll,
            Self::Query(_) | Self::Registrations(_) => Operation::Query,
            _ => Operation::Enrollment,
        }
    }
}

fn kind(part: &str) -> Option<Kind> {
    match part.to_ascii_lowercase().as_str() {
        "enrollments" => Some(Kind::Individual),
        "enrollmentgroups" => Some(Kind::Group),
        _ => None,
    }
}

impl Api for DpsCore {
    async fn answer(self: &Arc<Self>, call: Call) -> Option<Reply> {
        let tracking = self.tracking_id();
        let met = Route::of(&call).map(|route| self.faults.meet(route.operation()));
        let (refusal, delay, lose_reply) = match met {
            Some(met) => (met.refusal, met.delay, met.lose_reply),
            None => (None, Duration::ZERO, false),
        };
        faults::wait(delay).await;
        let done = match refusal {
            Some(refusal) => Err(DpsError::from_fault(refusal)),
            None => answer(self, &call),
        };
        let reply = done.unwrap_or_else(|error| error.reply(&tracking, &time::utc(self.now_us())));
        (!lose_reply).then(|| reply.with("x-ms-request-id", tracking))
    }
}

fn answer(core: &Arc<DpsCore>, call: &Call) -> Result<Reply, DpsError> {
    let token = call.header("authorization");
    let route = Route::of(call).ok_or_else(DpsError::no_such_call)?;
    match route {
        Route::Register(scope, id) => {
            let enrollment = core.authorize_device(scope, id, token)?;
            core.throttle_register()?;
            let payload = call.json().and_then(|body| body.get("payload").cloned());
            let payload = payload.filter(|payload| !payload.is_null());
            let operation = core.register(id, enrollment, payload)?;
            let location = format!("https://{}/{scope}/registrations/{id}", core.host);
            Ok(assigning(core, &operation).with("location", location))
        }
        Route::Operation(scope, id, operation) => {
            core.authorize_device(scope, id, token)?;
            core.throttle_poll()?;
            let registration = core.registration(id)?;
            if registration.operation != operation {
                return Err(DpsError::no_operation(operation));
            }
            match registration.status {
                Status::Assigning => Ok(assigning(core, operation)),
                _ => Ok(Reply::ok(&registration.operation_json())),
            }
        }
        Route::LookUp(scope, id) => {
            core.authorize_device(scope, id, token)?;
            core.throttle_poll()?;
            Ok(Reply::ok(&core.registration(id)?.json()))
        }
        _ => {
            core.authorize_service(token)?;
            service(core, route, call)
        }
    }
}

fn assigning(core: &DpsCore, operation: &str) -> Reply {
    let body = json!({ "operationId": operation, "status": "assigning" });
    Reply::json(StatusCode::ACCEPTED, &body).with("retry-after", core.retry_after_s().to_string())
}

fn service(core: &DpsCore, route: Route<'_>, call: &Call) -> Result<Reply, DpsError> {
    match route {
        Route::Bulk(kind) => bulk(core, kind, &body(call)?),
        Route::Query(kind) => {
            let body = body(call)?;
            check_query(body["query"].as_str().unwrap_or_default(), kind)?;
            page(&core.enrollments(kind), call, kind.record_field())
        }
        Route::Record(kind, id) => record(core, kind, id, call),
        Route::Attestation(kind, id) => Ok(Reply::ok(&core.enrollment(kind, id)?.attestation())),
        Route::Registrations(group) => {
            core.enrollment(Kind::Group, group)?;
            page(&core.registrations_of(group), call, "deviceRegistration")
        }
        Route::Registration(id) if call.method == Method::DELETE => {
            core.delete_registration(id)?;
            Ok(Reply::empty(StatusCode::NO_CONTENT))
        }
        Route::Registration(id) => Ok(Reply::ok(&core.registration(id)?.json())),
        _ => Err(DpsError::no_such_call()),
    }
}

fn record(core: &DpsCore, kind: Kind, id: &str, call: &Call) -> Result<Reply, DpsError> {
    match call.method {
        Method::GET => {
            let enrollment = core.enrollment(kind, id)?;
            let etag = format!("\"{}\"", enrollment.etag());
            Ok(Reply::ok(&core.enrollment_json(&enrollment)).with("etag", etag))
        }
        Method::PUT => Ok(Reply::ok(&core.put(
            kind,
            id,
            &body(call)?,
            call.if_match(),
            false,
        )?)),
        Method::DELETE => {
            core.delete(kind, id, call.if_match())?;
            Ok(Reply::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(DpsError::no_such_call()),
    }
}

fn bulk(core: &DpsCore, kind: Kind, body: &Value) -> Result<Reply, DpsError> {
    let entries = body[kind.bulk_field()].as_array();
    let entries = entries.ok_or_else(|| DpsError::argument(kind.bulk_field()))?;
    if entries.len() > BULK_MAX {
        return Err(DpsError::argument(format!(
            "at most {BULK_MAX} in one request"
        )));
    }
    let mode = body["mode"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    for entry in entries {
        let id = entry[kind.id_field()].as_str().unwrap_or_default();
        let etag = entry["etag"].as_str().unwrap_or_default();
        let done = match mode {
            "create" => core.put(kind, id, entry, None, true).map(drop),
            "update" => core.put(kind, id, entry, Some("*"), false).map(drop),
            "updateIfMatchETag" => core.put(kind, id, entry, Some(etag), false).map(drop),
            "delete" => core.delete(kind, id, None),
            other => return Err(DpsError::argument(format!("mode {other:?} is not known"))),
        };
        if let Err(error) = done {
            errors.push(json!({
                kind.id_field(): id,
                "errorCode": error.code,
                "errorStatus": error.text,
            }));
        }
    }
    Ok(Reply::ok(
        &json!({ "isSuccessful": errors.is_empty(), "errors": errors }),
    ))
}

/// `SELECT * FROM enrollments`, and nothing else: a condition that is not looked at would be a lie.
fn check_query(text: &str, kind: Kind) -> Result<(), DpsError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let understood = match words[..] {
        [select, "*", from, table] => {
            select.eq_ignore_ascii_case("select")
                && from.eq_ignore_ascii_case("from")
                && table.eq_ignore_ascii_case(kind.bulk_field())
        }
        [one] => one == "*",
        _ => false,
    };
    match understood {
        true => Ok(()),
        false => Err(DpsError::argument(format!(
            "{text:?}: only SELECT * FROM {} is understood",
            kind.bulk_field()
        ))),
    }
}

fn page(items: &[Value], call: &Call, item_type: &str) -> Result<Reply, DpsError> {
    let from = call.continuation();
    let from = from.ok_or_else(|| DpsError::argument("x-ms-continuation is none of ours"))?;
    Ok(Reply::page(
        items,
        from,
        call.page_size(PAGE_MAX),
        item_type,
    ))
}

fn body(call: &Call) -> Result<Value, DpsError> {
    call.json()
        .ok_or_else(|| DpsError::argument("the body is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, DpsConfig, Listen};

    #[test]
    fn a_bulk_does_what_it_can_and_names_what_it_could_not() {
        let authority = Arc::new(Authority::generate().unwrap());
        let core = DpsCore::new(DpsConfig::new(Listen::default(), authority, "0ne")).unwrap();
        let entry =
            |id: &str| json!({ "registrationId": id, "attestation": { "type": "symmetricKey" } });
        let create =
            json!({ "mode": "create", "enrollments": [entry("a"), entry("b"), entry("A")] });

        let reply = bulk(&core, Kind::Individual, &create).unwrap();

        let body: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body["isSuccessful"], false);
        assert_eq!(body["errors"].as_array().unwrap().len(), 1);
        assert_eq!(body["errors"][0]["registrationId"], "A");
        assert_eq!(body["errors"][0]["errorCode"], 409_201);
        assert_eq!(core.enrollments(Kind::Individual).len(), 2);
        let delete = json!({ "mode": "delete", "enrollments": [entry("a"), entry("b")] });
        let reply = bulk(&core, Kind::Individual, &delete).unwrap();
        assert!(reply.body.contains("true"), "{}", reply.body);
        let many = vec![entry("x"); BULK_MAX + 1];
        let many = json!({ "mode": "create", "enrollments": many });
        assert_eq!(
            bulk(&core, Kind::Individual, &many).unwrap_err().status,
            400
        );
    }
}
