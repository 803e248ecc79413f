//! What we say ourselves, written with the types of `fe2o3-amqp-types`.

use fe2o3_amqp_types::definitions::{Fields, Role};
use fe2o3_amqp_types::messaging::{
    Accepted, DeliveryState, FilterSet, Source, Target, TargetArchetype,
};
use fe2o3_amqp_types::performatives::{
    Attach, Begin, ChannelMax, Close, Detach, Disposition, Flow, MaxFrameSize, Open, Transfer,
};
use fe2o3_amqp_types::primitives::{Binary, Symbol};
use fe2o3_amqp_types::sasl::SaslInit;
use serde::Serialize;

use super::frames::{self, FRAME_BYTES_MAX};

/// Our side of the connection has this one session.
pub(super) const CHANNEL: u16 = 0;

/// Frames the hub may send ahead on the session. Credit is the real bound, so this is wide enough
/// never to be one; it is opened again when half of it is used.
pub(super) const WINDOW_FRAMES: u32 = 65_536;

/// `AMQP` protocol 3 (SASL), version 1.0.0.
pub(super) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// `AMQP` protocol 0, version 1.0.0.
pub(super) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

/// Kind of the frames of AMQP itself.
pub(super) const AMQP: u8 = 0;
/// Kind of the frames of SASL.
pub(super) const SASL: u8 = 1;

/// Bytes that wait for the socket.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
}

/// The state of the session that every flow repeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionState {
    pub(super) next_incoming_id: u32,
    pub(super) next_outgoing_id: u32,
}

/// The state of a link's credit.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkState {
    pub(super) handle: u32,
    pub(super) delivery_count: u32,
    pub(super) link_credit: u32,
}

impl Output {
    pub(super) fn header(&mut self, header: [u8; 8]) {
        self.bytes.extend_from_slice(&header);
    }

    /// A sign of life.
    pub(super) fn beat(&mut self) {
        frames::put(&mut self.bytes, AMQP, 0, &[]);
    }

    pub(super) fn sasl_init(&mut self, hostname: &str) {
        let init = SaslInit {
            mechanism: Symbol::from("ANONYMOUS"),
            initial_response: None,
            hostname: Some(hostname.to_owned()),
        };
        self.frame(SASL, &init);
    }

    pub(super) fn open(&mut self, container: &str, hostname: &str, idle_ms: u32) {
        let open = Open {
            container_id: container.to_owned(),
            hostname: Some(hostname.to_owned()),
            max_frame_size: MaxFrameSize(FRAME_BYTES_MAX as u32),
            channel_max: ChannelMax::default(),
            // Half of what we endure, so that one sign of life may be late (AMQP 1.0 part 2.4.5).
            idle_time_out: Some(idle_ms / 2),
            outgoing_locales: None,
            incoming_locales: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        };
        self.frame(AMQP, &open);
    }

    pub(super) fn begin(&mut self) {
        let begin = Begin {
            remote_channel: None,
            next_outgoing_id: 0,
            incoming_window: WINDOW_FRAMES,
            outgoing_window: WINDOW_FRAMES,
            handle_max: fe2o3_amqp_types::definitions::Handle(u32::MAX),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        };
        self.frame(AMQP, &begin);
    }

    /// Attaches a link on which we receive from `source`.
    pub(super) fn attach_receiver(
        &mut self,
        name: &str,
        handle: u32,
        source: &str,
        filter: Option<FilterSet>,
        reply_to: Option<&str>,
        properties: Option<Fields>,
    ) {
        let source = match filter {
            Some(filter) => Source::builder().address(source).filter(filter).build(),
            None => Source::builder().address(source).build(),
        };
        let target = match reply_to {
            Some(address) => Target::builder().address(address).build(),
            None => Target::default(),
        };
        self.attach(Attach {
            properties,
            ..attach(name, handle, Role::Receiver, source, target)
        });
    }

    /// Attaches a link on which we send to `target`.
    pub(super) fn attach_sender(&mut self, name: &str, handle: u32, source: &str, target: &str) {
        let source = Source::builder().address(source).build();
        let target = Target::builder().address(target).build();
        self.attach(Attach {
            initial_delivery_count: Some(0),
            ..attach(name, handle, Role::Sender, source, target)
        });
    }

    fn attach(&mut self, attach: Attach) {
        self.frame(AMQP, &attach);
    }

    pub(super) fn flow(&mut self, session: SessionState, link: Option<LinkState>) {
        let flow = Flow {
            next_incoming_id: Some(session.next_incoming_id),
            incoming_window: WINDOW_FRAMES,
            next_outgoing_id: session.next_outgoing_id,
            outgoing_window: WINDOW_FRAMES,
            handle: link.map(|link| link.handle.into()),
            delivery_count: link.map(|link| link.delivery_count),
            link_credit: link.map(|link| link.link_credit),
            available: None,
            drain: false,
            echo: false,
            properties: None,
        };
        self.frame(AMQP, &flow);
    }

    /// Accepts the deliveries from `first` to `last` and forgets them.
    pub(super) fn accept(&mut self, first: u32, last: u32) {
        let disposition = Disposition {
            role: Role::Receiver,
            first,
            last: Some(last),
            settled: true,
            state: Some(DeliveryState::Accepted(Accepted {})),
            batchable: false,
        };
        self.frame(AMQP, &disposition);
    }

    /// Sends a piece of a message.
    pub(super) fn transfer(&mut self, handle: u32, id: u32, more: bool, payload: &[u8]) {
        let transfer = Transfer {
            handle: handle.into(),
            delivery_id: Some(id),
            delivery_tag: Some(Binary::from(id.to_be_bytes().to_vec())),
            message_format: Some(0),
            settled: Some(false),
            more,
            rcv_settle_mode: None,
            state: None,
            resume: false,
            aborted: false,
            batchable: false,
        };
        let mut body = encode(&transfer);
        body.extend_from_slice(payload);
        frames::put(&mut self.bytes, AMQP, CHANNEL, &body);
    }

    /// Answers a detach.
    pub(super) fn detach(&mut self, handle: u32) {
        let detach = Detach {
            handle: handle.into(),
            closed: true,
            error: None,
        };
        self.frame(AMQP, &detach);
    }

    pub(super) fn close(&mut self) {
        self.frame(AMQP, &Close { error: None });
    }

    fn frame(&mut self, kind: u8, performative: &impl Serialize) {
        frames::put(&mut self.bytes, kind, CHANNEL, &encode(performative));
    }
}

/// Most bytes that [`Output::transfer`] puts around a payload, frame header included.
pub(super) const TRANSFER_BYTES_MAX: usize = 64;

fn encode(performative: &impl Serialize) -> Vec<u8> {
    serde_amqp::to_vec(performative).expect("our own performatives can be written")
}

fn attach(name: &str, handle: u32, role: Role, source: Source, target: Target) -> Attach {
    Attach {
        name: name.to_owned(),
        handle: handle.into(),
        role,
        snd_settle_mode: Default::default(),
        rcv_settle_mode: Default::default(),
        source: Some(Box::new(source)),
        target: Some(Box::new(TargetArchetype::Target(target))),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}
