//! The links to the connection's `$cbs` node, where tokens are put.

use bytes::Bytes;
use fe2o3_amqp_types::messaging::message::__private::Serializable;

use super::super::authorize::TokenQuestion;
use super::super::request::{Answer, STALE_ANSWERS_MAX, question};
use super::compose::{Output, TRANSFER_BYTES_MAX};
use super::link::Inbound;
use super::session::Session;
use crate::HubError;
use crate::error::Asked;

/// Name of the node.
pub(super) const NODE: &str = "$cbs";

/// Credit for answers: one is awaited at a time.
const ANSWER_CREDIT: u32 = 10;

/// A pair of links, and the question that is open on it.
#[derive(Debug)]
pub(super) struct Cbs {
    pub(super) sender: Sender,
    pub(super) receiver: Inbound,
    pub(super) receiver_name: String,
    reply_to: String,
    /// What could not be sent yet, for want of credit or window.
    unsent: Option<Vec<u8>>,
    /// Id of the question whose answer is awaited.
    awaited: Option<u64>,
    asked_count: u64,
    stale: usize,
}

/// The link on which we send.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) name: String,
    handle: u32,
    pub(super) remote_handle: Option<u32>,
    delivery_count: u32,
    credit: u32,
    /// Number of the delivery that the open question is.
    delivery_id: Option<u32>,
}

impl Cbs {
    /// Attaches both links under the numbers `handle` and the one after it, with `id` in their
    /// names.
    pub(super) fn attach(handle: u32, id: &str, out: &mut Output) -> Self {
        let reply_to = format!("cbs-reply-{id}");
        let sender = Sender {
            name: format!("{NODE}-sender-{id}"),
            handle,
            remote_handle: None,
            delivery_count: 0,
            credit: 0,
            delivery_id: None,
        };
        let receiver_name = format!("{NODE}-receiver-{id}");
        out.attach_sender(&sender.name, handle, &reply_to, NODE);
        out.attach_receiver(
            &receiver_name,
            handle + 1,
            NODE,
            None,
            Some(&reply_to),
            None,
        );
        Self {
            sender,
            receiver: Inbound::new(handle + 1, ANSWER_CREDIT),
            receiver_name,
            reply_to,
            unsent: None,
            awaited: None,
            asked_count: 0,
            stale: 0,
        }
    }

    /// Whether the hub has answered both links.
    pub(super) fn is_attached(&self) -> bool {
        self.sender.remote_handle.is_some() && self.receiver.remote_handle.is_some()
    }

    /// Whether one of the links has this number of the peer's.
    pub(super) fn has(&self, remote_handle: u32) -> bool {
        [self.sender.remote_handle, self.receiver.remote_handle].contains(&Some(remote_handle))
    }

    /// Whether an answer is awaited.
    pub(super) fn is_asking(&self) -> bool {
        self.awaited.is_some()
    }

    /// Puts a token as soon as the hub takes it.
    pub(super) fn ask(&mut self, token: TokenQuestion) {
        let id = self.asked_count;
        self.asked_count += 1;
        let message = question(id, &self.reply_to, token.properties, token.body);
        let encoded = serde_amqp::to_vec(&Serializable(message));
        self.unsent = Some(encoded.expect("a question of ours can be written"));
        self.awaited = Some(id);
        self.stale = 0;
    }

    /// What the hub says about the credit of the sending link.
    pub(super) fn credited(&mut self, delivery_count: Option<u32>, link_credit: u32) {
        let sender = &mut self.sender;
        let limit = delivery_count.unwrap_or(0).wrapping_add(link_credit);
        let left = limit.wrapping_sub(sender.delivery_count);
        // What lies behind us is credit that was taken back (AMQP 1.0 part 2.6.7).
        sender.credit = if left > u32::MAX / 2 { 0 } else { left };
    }

    /// Sends what waits, when the hub takes all of it now.
    pub(super) fn pump(&mut self, session: &mut Session, frame_bytes_max: usize, out: &mut Output) {
        if !self.is_attached() || self.sender.credit == 0 {
            return;
        }
        let piece = frame_bytes_max - TRANSFER_BYTES_MAX;
        let Some(message) = self
            .unsent
            .take_if(|message| session.takes(message.len().div_ceil(piece)))
        else {
            return;
        };
        let id = session.next_delivery();
        let mut pieces = message.chunks(piece).peekable();
        while let Some(now) = pieces.next() {
            out.transfer(self.sender.handle, id, pieces.peek().is_some(), now);
            session.sent();
        }
        self.sender.delivery_id = Some(id);
        self.sender.delivery_count = self.sender.delivery_count.wrapping_add(1);
        self.sender.credit -= 1;
    }

    /// Whether what the hub rejects is the open question.
    pub(super) fn is_rejected(&self, first: u32, last: u32) -> bool {
        let Some(id) = self.sender.delivery_id.filter(|_| self.is_asking()) else {
            return false;
        };
        id.wrapping_sub(first) <= last.wrapping_sub(first)
    }

    /// Takes an answer. One to an earlier question, which nobody awaits, is passed over.
    pub(super) fn answered(&mut self, encoded: Bytes, asked: &Asked) -> Result<(), HubError> {
        let answer = Answer::new(encoded);
        if self.awaited.is_some() && answer.correlation_id() == self.awaited {
            self.awaited = None;
            return answer.success(asked).map(drop);
        }
        self.stale += 1;
        if self.stale >= STALE_ANSWERS_MAX {
            return Err(HubError::Protocol {
                detail: format!("{NODE} answers other questions than ours"),
            });
        }
        Ok(())
    }

    /// Leaves both links; gives the peer's numbers of those that it has to leave too.
    pub(super) fn detach(self, left_already: u32, out: &mut Output) -> Option<u32> {
        out.detach(self.sender.handle);
        out.detach(self.sender.handle + 1);
        [self.sender.remote_handle, self.receiver.remote_handle]
            .into_iter()
            .flatten()
            .find(|&handle| handle != left_already)
    }
}
