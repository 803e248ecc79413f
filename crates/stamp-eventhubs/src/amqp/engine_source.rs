//! One open partition on the engine `fe2o3-amqp`: what [`super::receiver`] is checked against.

use std::mem;

use bytes::Bytes;
use fe2o3_amqp::Receiver;
use fe2o3_amqp::link::RecvError;
use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp_types::messaging::{Batch, Data, Source};
use futures_util::FutureExt as _;
use stamp_model::{BatchLimits, Event, EventBatch, PartitionId};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout_at};

use super::authorize::Authorization;
use super::connection::{Connection, answer_within};
use super::event::read_event;
use super::fault::Fault;
use super::tap::Inbox;
use super::{Hub, asked, position};
use crate::error::Asked;
use crate::{HubError, PartitionSource, StartPosition};

/// An open partition of an [`EngineHub`](crate::EngineHub), on a connection of its own.
///
/// When a token is about to end, the next pull puts a new one first, once; when that fails the pull
/// fails.
pub struct EngineSource {
    connection: Connection,
    authorization: Authorization,
    receiver: Receiver,
    asked: Asked,
    credit: u32,
    /// Deliveries the hub does not know of yet that we have them.
    unsettled: Vec<DeliveryInfo>,
    /// Deliveries since the credit was last filled up.
    used_credit: u32,
    /// Events taken from the link and not given out.
    pending: Vec<Event>,
    pending_bytes: usize,
    last_sequence: Option<i64>,
    opened_at: Instant,
    settle_failure: Option<HubError>,
    /// Follows the pending events.
    failure: Option<HubError>,
}

impl EngineSource {
    pub(crate) async fn open(
        hub: &Hub,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> Result<Self, HubError> {
        let path = hub.partition_path(partition);
        let asked = asked(path.clone(), Some(partition));
        let mut connection = Connection::open(&hub.connection, hub.credit, &asked).await?;
        let audience = hub.audience(&path);
        let authorization =
            Authorization::obtain(&mut connection, &hub.credential, audience, &asked).await?;
        let timeout = connection.timeout();
        let attaching = Receiver::builder()
            .name(format!("{path}-{}", uuid::Uuid::new_v4()))
            .source(
                Source::builder()
                    .address(path.as_str())
                    .filter(position::filter(start))
                    .build(),
            )
            .properties(position::link_properties(owner_level))
            // The credit is ours to fill up, so that a dropped call can never lose some of it.
            .credit_mode(CreditMode::Manual)
            .attach(&mut connection.session);
        let mut receiver = answer_within(timeout, "opening the partition", attaching)
            .await?
            .map_err(|error| connection.fault(&asked).attach_receiver(error))?;
        receiver
            .set_credit(hub.credit)
            .await
            .map_err(|error| connection.fault(&asked).dispose(error))?;
        Ok(Self {
            connection,
            authorization,
            receiver,
            asked,
            credit: hub.credit,
            unsettled: Vec::new(),
            used_credit: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            last_sequence: None,
            opened_at: Instant::now(),
            settle_failure: None,
            failure: None,
        })
    }

    /// Waits for the next event. Cancel safe: the engine takes one only when it is ready, and it is
    /// kept without another wait.
    async fn wait_for_event(&mut self) -> Result<(), HubError> {
        let received = receive_payload(&mut self.receiver, &self.connection.inbox).await;
        self.keep(received)
    }

    /// Takes what is ready, up to the limits, without waiting for the hub.
    async fn take_ready(&mut self, limits: BatchLimits) -> Result<(), HubError> {
        loop {
            self.settle().await;
            let full = self.pending.len() >= limits.events_max.max(1)
                || self.pending_bytes >= limits.bytes_max;
            if full {
                return Ok(());
            }
            // The engine's channel would otherwise say "not ready" every hundred events or so, to
            // let other tasks run; the limits see to that here.
            let next = unconstrained(receive_payload(&mut self.receiver, &self.connection.inbox));
            match next.now_or_never() {
                Some(received) => self.keep(received)?,
                None => return Ok(()),
            }
        }
    }

    fn keep(
        &mut self,
        received: Result<(DeliveryInfo, Bytes), ReceiveFailure>,
    ) -> Result<(), HubError> {
        let (delivery, encoded) =
            received.map_err(|failure| failure.into_error(&self.connection.fault(&self.asked)))?;
        self.unsettled.push(delivery);
        self.used_credit += 1;
        let event = read_event(&encoded).map_err(|missing| HubError::Protocol {
            detail: format!(
                "the message after sequence number {} of {} has no {}",
                self.last_sequence
                    .map_or("(none yet)".to_owned(), |last| last.to_string()),
                self.asked.entity,
                missing.annotation,
            ),
        })?;
        self.asked.granted = true;
        self.last_sequence = Some(event.sequence);
        self.pending_bytes += event.size();
        self.pending.push(event);
        Ok(())
    }

    /// Tells the hub about a quarter of the credit at a time, in one disposition for all, and fills
    /// the credit up when half of it is used. Event Hubs keeps no position for us and delivers
    /// nothing again, so this is about flow alone.
    ///
    /// A link that has ended refuses this while events of it still wait to be taken. So a failure
    /// is put by: receiving comes to the same end, after the events.
    async fn settle(&mut self) {
        if self.settle_failure.is_none()
            && let Err(error) = self.try_settle().await
        {
            self.settle_failure = Some(error);
        }
    }

    async fn try_settle(&mut self) -> Result<(), HubError> {
        if self.unsettled.len() >= (self.credit / 4).max(1) as usize {
            let deliveries = mem::take(&mut self.unsettled);
            unconstrained(self.receiver.accept_all(deliveries))
                .await
                .map_err(|error| self.connection.fault(&self.asked).dispose(error))?;
        }
        if self.used_credit >= (self.credit / 2).max(1) {
            unconstrained(self.receiver.set_credit(self.credit))
                .await
                .map_err(|error| self.connection.fault(&self.asked).dispose(error))?;
            self.used_credit = 0;
        }
        Ok(())
    }

    /// Gives out pending events: all, up to the limits or to where the order breaks.
    fn give_out(&mut self, limits: BatchLimits) -> EventBatch {
        let mut bytes = 0;
        let mut end = 0;
        while end < self.pending.len().min(limits.events_max.max(1)) {
            let event = &self.pending[end];
            let in_order = end == 0 || self.pending[end - 1].sequence < event.sequence;
            if !in_order || (end > 0 && bytes >= limits.bytes_max) {
                break;
            }
            bytes += event.size();
            end += 1;
        }
        self.pending_bytes -= bytes;
        let mut rest = self.pending.split_off(end);
        // The next batch is likely to be as long as this one.
        rest.reserve(end);
        EventBatch {
            events: mem::replace(&mut self.pending, rest),
        }
    }

    async fn fill(&mut self, limits: BatchLimits) -> Result<(), HubError> {
        self.authorization
            .renew_when_due(&self.connection, &self.asked)
            .await?;
        self.settle().await;
        if self.pending.is_empty() {
            let deadline = Instant::now() + limits.wait_max;
            match timeout_at(deadline, self.wait_for_event()).await {
                Ok(waited) => waited?,
                Err(_) => return self.settle_failure.take().map_or(Ok(()), Err),
            }
        }
        self.take_ready(limits).await
    }
}

impl PartitionSource for EngineSource {
    async fn next_batch(&mut self, limits: BatchLimits) -> Result<EventBatch, HubError> {
        // The hub may answer a link before it looks at the token, and take it away right after: the
        // right to read is shown by an event, or by a link that stays.
        self.asked.granted |= self.opened_at.elapsed() >= self.connection.timeout();
        if self.failure.is_none()
            && let Err(error) = self.fill(limits).await
        {
            self.failure = Some(error);
        }
        if self.pending.is_empty()
            && let Some(error) = self.failure.take()
        {
            let detail = format!("the source failed before: {error}");
            self.failure = Some(HubError::ConnectionLost { detail });
            return Err(error);
        }
        Ok(self.give_out(limits))
    }

    async fn close(self) {
        self.connection.close().await;
    }
}

/// Why nothing was received.
pub(crate) enum ReceiveFailure {
    /// The engine says so.
    Engine(RecvError),
    /// The engine announced a message whose payload the tap does not have.
    NoPayload,
}

impl ReceiveFailure {
    pub(crate) fn into_error(self, fault: &Fault<'_>) -> HubError {
        match self {
            Self::Engine(error) => fault.receive(error),
            Self::NoPayload => HubError::Protocol {
                detail: "a message came without a payload".to_owned(),
            },
        }
    }
}

/// Receives one message as it was encoded: the parts of it that the tap put aside, joined.
///
/// Cancel safe, as the engine's `recv`: nothing is awaited after a delivery was taken.
pub(crate) async fn receive_payload(
    receiver: &mut Receiver,
    inbox: &Inbox,
) -> Result<(DeliveryInfo, Bytes), ReceiveFailure> {
    let delivery = receiver
        .recv::<Batch<Data>>()
        .await
        .map_err(ReceiveFailure::Engine)?;
    let payload = collect(delivery.body(), inbox).ok_or(ReceiveFailure::NoPayload)?;
    Ok((delivery.into(), payload))
}

fn collect(slots: &Batch<Data>, inbox: &Inbox) -> Option<Bytes> {
    let take = |Data(slot): &Data| {
        let slot: [u8; 4] = slot.as_slice().try_into().ok()?;
        inbox.take(u32::from_be_bytes(slot))
    };
    match slots.as_slice() {
        [one] => take(one),
        parts => {
            let parts: Option<Vec<Bytes>> = parts.iter().map(take).collect();
            Some(parts?.concat().into())
        }
    }
}

#[cfg(test)]
mod tests;
