//! A hub and a DPS in memory, for tests of programs: the same promises, no network.
//!
//! [`MemoryDps::register`] plays a device that registers. A [`Hook`] sees each request before it
//! is done and may refuse it, lose its answer, or hold it for ever, which is how a test kills a
//! program at a request of its choice.

mod dps;
mod hub;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::HeaderMap;
use serde_json::{Value, json};

pub use dps::MemoryDps;
pub use hub::MemoryIotHub;

use crate::error::ServiceError;
use crate::failure::{Asked, failure};

/// A request that a service in memory has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRequest<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The method of the trait, such as `update`.
    pub method: &'static str,
    /// Device, enrolment or group; empty for queries.
    pub id: &'a str,
    /// Whether it changes something.
    pub is_write: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done and answered.
    Do,
    /// It is not done, and refused with this status and code.
    Refuse(u16, u32),
    /// It is not done: no connection.
    Unreachable,
    /// It is done, and the connection is lost.
    LoseReply,
    /// It is not done and never answered.
    Hold,
    /// It is done and never answered.
    DoAndHold,
}

/// Sees each request first.
pub type Hook = Arc<dyn Fn(&MemoryRequest<'_>) -> Verdict + Send + Sync>;

/// The hook of one service; clones of the service share it.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Option<Hook>>>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    fn set(&self, hook: Option<Hook>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Lets a request through, or what the hook says instead.
    async fn pass<T>(
        &self,
        request: MemoryRequest<'_>,
        act: impl FnOnce() -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let hook = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match hook.map_or(Verdict::Do, |hook| hook(&request)) {
            Verdict::Do => act(),
            Verdict::Refuse(status, code) => Err(refused(&request, status, code, "as told")),
            Verdict::Unreachable => Err(ServiceError::Unreachable {
                peer: request.service.to_owned(),
                source: io::Error::from(io::ErrorKind::ConnectionRefused),
            }),
            Verdict::LoseReply => {
                let _unseen = act();
                Err(ServiceError::Lost {
                    peer: request.service.to_owned(),
                    request: format!("{} {}", request.method, request.id),
                    may_have_happened: request.is_write,
                    source: io::Error::from(io::ErrorKind::ConnectionReset).into(),
                })
            }
            Verdict::Hold => std::future::pending().await,
            Verdict::DoAndHold => {
                let _unseen = act();
                std::future::pending().await
            }
        }
    }
}

/// The error of a refusal, by the same classes as the real services' answers.
fn refused(request: &MemoryRequest<'_>, status: u16, code: u32, text: &str) -> ServiceError {
    let body = json!({ "errorCode": code, "message": text }).to_string();
    let asked = Asked {
        peer: request.service,
        request: &format!("{} {}", request.method, request.id),
        is_write: request.is_write,
        token_was_kept: false,
    };
    failure(asked, status, &HeaderMap::new(), body.as_bytes(), 0)
}

/// An answer that a client in memory made itself and cannot read.
fn wrong(request: &MemoryRequest<'_>, detail: String) -> ServiceError {
    ServiceError::Answer {
        peer: request.service.to_owned(),
        request: request.method.to_owned(),
        detail,
        may_have_happened: request.is_write,
    }
}

/// A page of all items, whose continuation is a number.
fn page<T: Clone>(items: &[T], page: &crate::PageRequest) -> crate::Page<T> {
    let from = page
        .continuation
        .as_deref()
        .and_then(|text| text.parse().ok());
    let from = from.unwrap_or(0).min(items.len());
    let until = (from + page.items_max as usize).min(items.len());
    crate::Page {
        items: items[from..until].to_vec(),
        continuation: (until < items.len()).then(|| until.to_string()),
    }
}

/// JSON merge patch (RFC 7396) on an object.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            if let Some(members) = target.as_object_mut() {
                members.remove(name);
            }
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}
