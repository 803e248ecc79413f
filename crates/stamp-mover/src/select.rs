//! Which devices a query of the source hub names.

use std::collections::BTreeSet;
use std::sync::Arc;

use stamp_iothub::{DeviceRegistry, PageRequest, ServiceError};
use stamp_model::DeviceId;
use stamp_resilience::{
    Bucket, Classify, FailureKind, GaveUp, Observer, Pace, Peer, PolicyError, idempotent,
};
use tokio_util::sync::CancellationToken;

use crate::doors::PeerPolicy;
use crate::plan::DEVICES_MAX;

/// Most pages of one query. A page has up to a thousand devices and may have none.
const PAGES_MAX: usize = 20_000;

/// Why the devices of a query are not known.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The hub did not answer.
    #[error("the query of the hub was given up")]
    GaveUp(#[from] Box<GaveUp<Answer>>),
    /// The policy breaks a rule.
    #[error("the retry policy cannot be used")]
    Policy(#[from] PolicyError),
    /// More than one move may have.
    #[error("the query names over {DEVICES_MAX} devices")]
    TooMany,
    /// The hub says again and again that more follows.
    #[error("the query was not answered to the end within {PAGES_MAX} pages")]
    Endless,
}

/// Why one page of a query is not known.
#[derive(Debug, thiserror::Error)]
pub enum Answer {
    /// The hub said no, or nothing.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A row of the answer names no device. Permanent.
    #[error("a row of the answer has no deviceId: SELECT *, or deviceId among others")]
    NoDevice,
}

impl Classify for Answer {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Service(error) => error.kind(),
            Self::NoDevice => FailureKind::Permanent,
        }
    }
}

/// The devices that a query of IoT Hub's language names, each once, by their ids. Cancel safe: it
/// only reads.
///
/// # Errors
/// [`SelectError`].
pub async fn select(
    hub: &impl DeviceRegistry,
    sql: &str,
    queries_per_minute: u64,
    policy: &PeerPolicy,
    observer: &Arc<dyn Observer>,
    cancel: &CancellationToken,
) -> Result<Vec<DeviceId>, SelectError> {
    let (retry, observer) = (policy.services.clone(), Arc::clone(observer));
    let peer = Peer::new("iothub/query", retry, policy.seed, observer)?;
    let pace = Pace::new(Bucket::per_minute(queries_per_minute, 2));
    let mut found = Found::default();
    let mut page = PageRequest::first();
    loop {
        pace.turn(cancel).await;
        let read = |attempt: stamp_resilience::Attempt| {
            let (pace, page) = (&pace, &page);
            async move {
                if attempt.number > 1 {
                    pace.charge();
                }
                let answer = hub.query(sql, page).await?;
                let id = |item: &serde_json::Value| {
                    let text = item["deviceId"].as_str()?;
                    DeviceId::parse(text.into()).ok()
                };
                let ids: Option<Vec<DeviceId>> = answer.items.iter().map(id).collect();
                Ok((ids.ok_or(Answer::NoDevice)?, answer.continuation))
            }
        };
        let name = idempotent("iothub.query");
        let (ids, continuation) = peer.run(name, cancel, read).await.map_err(Box::new)?;
        found.take(ids)?;
        match continuation {
            Some(text) => page.continuation = Some(text),
            None => return Ok(found.devices.into_iter().collect()),
        }
    }
}

/// What the pages so far have named.
#[derive(Debug, Default)]
struct Found {
    devices: BTreeSet<DeviceId>,
    pages: usize,
}

impl Found {
    fn take(&mut self, page: Vec<DeviceId>) -> Result<(), SelectError> {
        self.devices.extend(page);
        self.pages += 1;
        match (self.devices.len(), self.pages) {
            (devices, _) if devices > DEVICES_MAX => Err(SelectError::TooMany),
            (_, pages) if pages > PAGES_MAX => Err(SelectError::Endless),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_answers_pages_without_end_is_not_asked_without_end() {
        let mut found = Found::default();
        for _ in 0..PAGES_MAX {
            found.take(Vec::new()).unwrap();
        }
        let error = found.take(Vec::new()).unwrap_err();
        assert!(matches!(error, SelectError::Endless), "{error}");
    }
}
