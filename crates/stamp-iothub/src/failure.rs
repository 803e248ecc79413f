//! From a status, headers and a body to an error: which of the four outcomes it is.

use std::time::Duration;

use hyper::HeaderMap;
use serde_json::Value;

use crate::error::{Refusal, ServiceError};

/// What is known of the request that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) peer: &'a str,
    pub(crate) request: &'a str,
    /// Whether it changes something.
    pub(crate) is_write: bool,
    pub(crate) token_was_kept: bool,
}

/// Codes of IoT Hub that say "not now" with a status that otherwise means "never": two service
/// upgrades, a device that is moved inside the service, a hub that fails over
/// (IoT Hub's page of error codes).
const PASSING: [u32; 4] = [400_024, 400_029, 400_030, 404_012];
/// The hub's messages of the day are used up.
const QUOTA: u32 = 403_002;
/// Busy before anything was begun.
const BUSY: u16 = 503;

/// The error of an answer that is no success.
pub(crate) fn failure(
    asked: Asked<'_>,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now_s: i64,
) -> ServiceError {
    let refusal = Box::new(refusal(asked, status, headers, body));
    let retry_after = retry_after(headers, now_s);
    let passing = refusal.code.is_some_and(|code| PASSING.contains(&code));
    match status {
        _ if passing => ServiceError::Busy {
            refusal,
            may_have_happened: false,
        },
        429 => ServiceError::Throttled {
            refusal,
            retry_after,
        },
        BUSY if retry_after.is_some() => ServiceError::Throttled {
            refusal,
            retry_after,
        },
        401 => ServiceError::Unauthorized {
            refusal,
            token_was_kept: asked.token_was_kept,
        },
        403 if refusal.code == Some(QUOTA) => ServiceError::QuotaUsedUp(refusal),
        403 => ServiceError::Denied(refusal),
        404 => ServiceError::NotFound(refusal),
        409 => ServiceError::Exists(refusal),
        412 => ServiceError::Changed(refusal),
        408 | 499 | 500.. => ServiceError::Busy {
            refusal,
            may_have_happened: asked.is_write && status != BUSY,
        },
        _ => ServiceError::Refused(refusal),
    }
}

fn refusal(asked: Asked<'_>, status: u16, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = Said::parse(&json);
    let number = header("x-ms-error-code").and_then(|text| text.parse().ok());
    Refusal {
        peer: asked.peer.to_owned(),
        request: asked.request.to_owned(),
        status,
        code: said.code.or(number),
        name: said.name.or_else(|| header("iothub-errorcode")),
        message: cut(&said.message),
        tracking_id: said.tracking_id.or_else(|| header("x-ms-request-id")),
    }
}

#[derive(Debug, Default)]
struct Said {
    code: Option<u32>,
    name: Option<String>,
    message: String,
    tracking_id: Option<String>,
}

impl Said {
    /// DPS: `{"errorCode":..,"trackingId":..,"message":..}`. IoT Hub: `{"Message":..,
    /// "ExceptionMessage":..}`, where `Message` is either such an object as a text or
    /// `ErrorCode:Name;words`. A token's issuer: `{"error":..,"error_description":..}`.
    fn parse(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().filter(|text| !text.is_empty());
        if let Some(code) = json["errorCode"].as_u64() {
            return Self {
                code: u32::try_from(code).ok(),
                name: None,
                message: text("message").unwrap_or_default().to_owned(),
                tracking_id: text("trackingId").map(str::to_owned),
            };
        }
        if let Some(name) = text("error") {
            return Self {
                name: Some(name.to_owned()),
                message: text("error_description").unwrap_or_default().to_owned(),
                tracking_id: text("trace_id").map(str::to_owned),
                ..Self::default()
            };
        }
        let message = text("Message").unwrap_or_default();
        let inner: Value = serde_json::from_str(message).unwrap_or_default();
        if inner["errorCode"].is_u64() {
            return Self::parse(&inner);
        }
        let tracking_id = text("ExceptionMessage").and_then(tracking_id);
        match message.strip_prefix("ErrorCode:") {
            Some(rest) => {
                let (name, words) = rest.split_once(';').unwrap_or((rest, ""));
                let words = words.trim();
                let code = six_digits(words);
                // The number is told apart from the words by whoever prints it.
                let words = code.map_or(words, |code| {
                    words.strip_prefix(&code.to_string()).unwrap_or(words)
                });
                Self {
                    code,
                    name: Some(name.trim().to_owned()),
                    message: words.trim().to_owned(),
                    tracking_id,
                }
            }
            None => Self {
                message: message.to_owned(),
                tracking_id,
                ..Self::default()
            },
        }
    }
}

/// `Tracking ID:abc-TimeStamp:..`
fn tracking_id(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("Tracking ID:")?;
    let id = rest.split("-TimeStamp").next().unwrap_or(rest).trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// A number of six digits at the beginning that begins as a status does. Further on it may be a
/// part of a device's name.
fn six_digits(text: &str) -> Option<u32> {
    let code = text.split(|c: char| !c.is_ascii_digit()).next()?;
    let is_code = code.len() == 6 && code.starts_with(['4', '5']);
    code.parse().ok().filter(|_| is_code)
}

fn cut(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text = text.trim().chars().map(printable);
    text.take(Refusal::MESSAGE_CHARS_MAX).collect()
}

/// The least pause that the headers ask for: milliseconds, seconds, or a date.
fn retry_after(headers: &HeaderMap, now_s: i64) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let ms = text("retry-after-ms").or_else(|| text("x-ms-retry-after-ms"));
    if let Some(ms) = ms.and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(ms));
    }
    let after = text("retry-after")?.trim();
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(after)
        .ok()?;
    let seconds = date.as_second().saturating_sub(now_s).max(0);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use stamp_resilience::{Classify as _, FailureKind};

    use super::*;

    fn error(
        status: u16,
        headers: &[(&'static str, &str)],
        body: &str,
        write: bool,
    ) -> ServiceError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let asked = Asked {
            peer: "h",
            request: "PUT /devices/d",
            is_write: write,
            token_was_kept: false,
        };
        failure(asked, status, &map, body.as_bytes(), 1_000)
    }

    #[test]
    fn a_device_that_is_called_like_a_code_is_not_taken_for_one() {
        let body = r#"{"Message":"ErrorCode:DeviceNotFound;Device 404012 is not registered"}"#;
        let error = error(404, &[], body, false);
        assert!(matches!(error, ServiceError::NotFound(_)), "{error}");
        assert_eq!(error.refusal().unwrap().code, None);
    }

    #[test]
    fn both_services_and_the_issuer_of_tokens_are_understood() {
        let hub = r#"{"Message":"ErrorCode:DeviceNotFound;404001 Device d not registered","ExceptionMessage":"Tracking ID:ab-12-TimeStamp:x"}"#;
        let hub = error(404, &[], hub, false);
        let refusal = hub.refusal().unwrap();
        assert!(matches!(hub, ServiceError::NotFound(_)));
        assert_eq!(
            (refusal.code, refusal.name.as_deref()),
            (Some(404_001), Some("DeviceNotFound"))
        );
        assert_eq!(refusal.tracking_id.as_deref(), Some("ab-12"));
        assert_eq!(
            hub.to_string(),
            "h answered PUT /devices/d with 404001 DeviceNotFound: Device d not registered (tracking id ab-12)"
        );
        let nested = r#"{"Message":"{\"errorCode\":412001,\"trackingId\":\"t\",\"message\":\"other ETag\"}"}"#;
        let nested = error(412, &[], nested, true);
        assert!(matches!(nested, ServiceError::Changed(_)));
        assert_eq!(nested.refusal().unwrap().code, Some(412_001));
        let dps = error(
            400,
            &[],
            r#"{"errorCode":400004,"message":"iotHubs"}"#,
            true,
        );
        assert!(matches!(dps, ServiceError::Refused(_)));
        let issuer = error(
            400,
            &[],
            r#"{"error":"invalid_client","error_description":"AADSTS"}"#,
            false,
        );
        assert_eq!(
            issuer.refusal().unwrap().name.as_deref(),
            Some("invalid_client")
        );
        let nothing = error(502, &[], "<html>", false);
        assert_eq!(
            nothing.to_string(),
            "h answered PUT /devices/d with status 502"
        );
    }

    #[test]
    fn every_status_is_one_of_the_four_outcomes() {
        use FailureKind::{Permanent, Throttled, Transient, Unknown};
        let none = Throttled { retry_after: None };
        let passing = r#"{"errorCode":400029,"message":"upgrade"}"#;
        for (status, body, read, write) in [
            (400, "", Permanent, Permanent),
            (400, passing, Transient, Transient),
            (401, "", Permanent, Permanent),
            (403, r#"{"errorCode":403002}"#, Permanent, Permanent),
            (404, "", Permanent, Permanent),
            (408, "", Transient, Unknown),
            (409, "", Permanent, Permanent),
            (412, "", Permanent, Permanent),
            (413, "", Permanent, Permanent),
            (415, "", Permanent, Permanent),
            (429, "", none, none),
            (500, "", Transient, Unknown),
            (502, "", Transient, Unknown),
            (503, "", Transient, Transient),
            (504, "", Transient, Unknown),
        ] {
            assert_eq!(
                error(status, &[], body, false).kind(),
                read,
                "{status} {body}"
            );
            assert_eq!(
                error(status, &[], body, true).kind(),
                write,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_pause_is_read_in_every_form_and_503_with_one_is_throttling() {
        let after = |name, value| match error(503, &[(name, value)], "", true).kind() {
            FailureKind::Throttled { retry_after } => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(
            after("retry-after-ms", "1500"),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(
            after("x-ms-retry-after-ms", "9"),
            Some(Duration::from_millis(9))
        );
        let date = "Thu, 01 Jan 1970 00:17:00 GMT";
        assert_eq!(after("retry-after", date), Some(Duration::from_secs(20)));
        let past = "Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(after("retry-after", past), Some(Duration::ZERO));
        let none = error(503, &[("retry-after", "soon")], "", true).kind();
        assert_eq!(none, FailureKind::Transient);
    }

    #[test]
    fn a_long_message_is_cut_and_cannot_break_a_line() {
        let body = format!(
            "{{\"errorCode\":400004,\"message\":\"a\\nb{}\"}}",
            "x".repeat(9_000)
        );
        let error = error(400, &[], &body, false);
        let message = &error.refusal().unwrap().message;
        assert_eq!(message.chars().count(), Refusal::MESSAGE_CHARS_MAX);
        assert!(message.starts_with("a bx"));
    }
}
