//! The client's side of a conversation without a socket, for tests and fuzz targets: what a hub
//! says goes in, events and what the client says come out.

use stamp_model::{BatchLimits, Event, PartitionId};

use super::super::authorize::TokenQuestion;
use super::super::{asked, position};
use super::intake::Intake;
use super::protocol::{Protocol, Reading};
use crate::{HubError, StartPosition};

const ANY: BatchLimits = BatchLimits {
    events_max: usize::MAX,
    bytes_max: usize::MAX,
    wait_max: std::time::Duration::ZERO,
};

/// Most that the client says to one frame of the hub.
const ANSWER_BYTES_MAX: usize = 2_048;

/// What happens next when the hub has done its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Begin,
    AttachCbs,
    PutToken,
    Attach,
    Grant,
    Read,
}

/// Opens a partition as a source does it, each step as soon as the hub has answered the one before,
/// and takes every event.
#[derive(Debug)]
pub struct Listener {
    protocol: Protocol,
    intake: Intake,
    credit: u32,
    with_token: bool,
    next: Next,
    said: Vec<u8>,
}

impl Listener {
    /// Names of the links: those of `$cbs` are `$cbs-sender-ID` and `$cbs-receiver-ID`.
    pub const LINK: &str = "link";

    /// A listener that grants `credit`, and puts a token first when it is to.
    #[must_use]
    pub fn new(credit: u32, with_token: bool) -> Self {
        let asked = asked("hub".to_owned(), PartitionId::new(0));
        Self {
            protocol: Protocol::new("client".to_owned(), "host".to_owned(), 60_000, asked),
            intake: Intake::default(),
            credit,
            with_token,
            next: Next::Begin,
            said: Vec::new(),
        }
    }

    /// Hears so many bytes of the hub.
    ///
    /// # Errors
    /// How the conversation ended; nothing more is heard after it. Events before it are there.
    pub fn hear(&mut self, mut bytes: &[u8]) -> Result<(), HubError> {
        while !bytes.is_empty() {
            let space = self.protocol.space();
            let length = bytes.len().min(space.capacity() - space.len());
            let (now, later) = bytes.split_at(length);
            space.extend_from_slice(now);
            bytes = later;
            self.handle()?;
        }
        Ok(())
    }

    /// Handles one frame after the other, with a step of our own after each: so it does not matter
    /// how much was heard at once.
    fn handle(&mut self) -> Result<(), HubError> {
        loop {
            let handled = self.protocol.handle_one(&mut self.intake);
            while self.step() {}
            let output = self.protocol.output();
            assert!(
                output.len() < ANSWER_BYTES_MAX,
                "{} bytes in answer to one frame",
                output.len()
            );
            self.said.append(output);
            if !handled? {
                return Ok(());
            }
        }
    }

    fn step(&mut self) -> bool {
        let protocol = &mut self.protocol;
        self.next = match self.next {
            Next::Begin if protocol.is_open() => {
                protocol.begin();
                if self.with_token {
                    Next::AttachCbs
                } else {
                    Next::Attach
                }
            }
            Next::AttachCbs if protocol.has_session() => {
                protocol.attach_cbs("id");
                Next::PutToken
            }
            Next::PutToken if protocol.has_cbs() => {
                protocol.put_token("id", TokenQuestion::for_tests());
                Next::Attach
            }
            Next::Attach if protocol.has_session() && !protocol.is_asking() => {
                protocol.attach(Reading {
                    link: Self::LINK.to_owned(),
                    path: "hub".to_owned(),
                    filter: (
                        position::SELECTOR,
                        position::filter(StartPosition::Earliest),
                    ),
                    properties: position::link_properties(None),
                    credit: self.credit,
                });
                Next::Grant
            }
            Next::Grant if protocol.is_reading() => {
                protocol.grant();
                Next::Read
            }
            _ => return false,
        };
        true
    }

    /// Whether the partition is open.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.next == Next::Read
    }

    /// The events that came since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while !self.intake.is_empty() {
            events.extend(self.intake.give_out(ANY).events);
        }
        events
    }

    /// What the client said since the last call.
    pub fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }
}

#[cfg(test)]
mod tests;
