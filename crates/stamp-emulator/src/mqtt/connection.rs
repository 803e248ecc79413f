//! One connection: bytes in, packets through the protocol library, the session's answers out.

use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait as _, Packet, Qos, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Broker, Incoming, Login, Message, Outbox, Refused, Session, Verdict};

/// Largest packet: a message of 256 KiB, its topic and some room.
const PACKET_BYTES_MAX: u32 = 300 * 1024;
/// From the socket to CONNECT.
const CONNECT_MAX: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 16 * 1024;

/// Runs a connection to its end. The session is dropped with it.
pub(super) async fn run<B: Broker>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    broker: &Arc<B>,
    stop: CancellationToken,
) {
    let mut link = Link::new(stream);
    let (outbox, mut messages) = Outbox::new();
    let Some(mut session) = link.admit(broker, &outbox).await else {
        return link.close().await;
    };
    loop {
        let turn = tokio::select! {
            biased;
            () = stop.cancelled() => Turn::Close,
            () = outbox.ended.cancelled() => Turn::Close,
            turn = link.turn(&mut messages) => turn,
        };
        let go_on = match turn {
            Turn::Packet(packet) => tokio::select! {
                biased;
                () = stop.cancelled() => false,
                () = outbox.ended.cancelled() => false,
                go_on = link.react(&mut session, *packet) => go_on,
            },
            Turn::Message(message) => link.publish(message).await,
            Turn::Nothing => true,
            Turn::Close => false,
        };
        if !go_on {
            break;
        }
    }
    drop(session);
    link.close().await;
}

/// What happens next on a connection.
enum Turn {
    Packet(Box<Packet>),
    Message(Message),
    Nothing,
    Close,
}

/// A socket and the protocol's state on it.
struct Link<S> {
    stream: S,
    protocol: Connection<role::Server>,
    buffer: Box<[u8]>,
    /// What was read and not yet taken apart.
    filled: std::ops::Range<usize>,
    /// When the client has been silent for too long.
    deadline: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    fn new(stream: S) -> Self {
        let options = ConnectionOptions::new().maximum_packet_size_recv(PACKET_BYTES_MAX);
        Self {
            stream,
            protocol: Connection::with_options(Version::V3_1_1, options),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            filled: 0..0,
            deadline: Some(Instant::now() + CONNECT_MAX),
        }
    }

    /// Reads CONNECT and answers it. `None` when the client is not admitted.
    async fn admit<B: Broker>(&mut self, broker: &Arc<B>, outbox: &Outbox) -> Option<B::Session> {
        // Nothing is sent before CONNACK, so there are no messages to wait for.
        let (_none, mut no_messages) = mpsc::channel(1);
        let connect = loop {
            match self.turn(&mut no_messages).await {
                Turn::Packet(packet) => match *packet {
                    Packet::V3_1_1Connect(connect) => break connect,
                    _ => return None,
                },
                Turn::Close => return None,
                Turn::Message(_) | Turn::Nothing => {}
            }
        };
        if connect.keep_alive() == 0 {
            // The client does not promise to say anything.
            self.deadline = None;
        }
        let password = connect.password().unwrap_or_default();
        let login = Login {
            client_id: connect.client_id(),
            user_name: connect.user_name().unwrap_or_default(),
            password: std::str::from_utf8(password).unwrap_or_default(),
        };
        let admitted = broker.connect(login, outbox.clone());
        let code = match &admitted {
            Ok(_) => ConnectReturnCode::Accepted,
            Err(Refused::ServerUnavailable) => ConnectReturnCode::ServerUnavailable,
            Err(Refused::BadUserNameOrPassword) => ConnectReturnCode::BadUserNameOrPassword,
            Err(Refused::NotAuthorized) => ConnectReturnCode::NotAuthorized,
        };
        let answer = v3_1_1::Connack::builder()
            .return_code(code)
            .session_present(false)
            .build()
            .ok()?;
        let sent = self.send(answer.into()).await;
        admitted.ok().filter(|_| sent)
    }

    /// The next packet, message or end of silence.
    ///
    /// Cancel safe: bytes are read whole or not at all.
    async fn turn(&mut self, messages: &mut mpsc::Receiver<Message>) -> Turn {
        if !self.filled.is_empty() {
            return self.take_apart().await;
        }
        let deadline = self.deadline;
        let silence = async {
            match deadline {
                Some(at) => drop(tokio::time::timeout_at(at, std::future::pending::<()>()).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(message) = messages.recv() => Turn::Message(message),
            read = self.stream.read(&mut self.buffer) => match read {
                Ok(0) | Err(_) => Turn::Close,
                Ok(bytes) => {
                    self.filled = 0..bytes;
                    Turn::Nothing
                }
            },
            () = silence => Turn::Close,
        }
    }

    /// Gives the library what was read; it takes one packet at a time.
    async fn take_apart(&mut self) -> Turn {
        let mut cursor = Cursor::new(&self.buffer[self.filled.clone()]);
        let events = self.protocol.recv(&mut cursor);
        let taken = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        self.filled.start = self.filled.start.saturating_add(taken).min(self.filled.end);
        let (packet, go_on) = self.obey(events).await;
        match packet {
            _ if !go_on => Turn::Close,
            Some(packet) => Turn::Packet(Box::new(packet)),
            None => Turn::Nothing,
        }
    }

    /// Answers a packet; `false` ends the connection.
    async fn react(&mut self, session: &mut impl Session, packet: Packet) -> bool {
        match packet {
            Packet::V3_1_1Publish(publish) => self.received(session, &publish).await,
            Packet::V3_1_1Subscribe(subscribe) => self.subscribe(session, &subscribe).await,
            Packet::V3_1_1Unsubscribe(unsubscribe) => {
                for filter in unsubscribe.entries() {
                    session.unsubscribe(filter.as_str());
                }
                let id = unsubscribe.packet_id();
                match v3_1_1::Unsuback::builder().packet_id(id).build() {
                    Ok(answer) => self.send(answer.into()).await,
                    Err(_) => false,
                }
            }
            Packet::V3_1_1Pingreq(_) => match v3_1_1::Pingresp::builder().build() {
                Ok(answer) => self.send(answer.into()).await,
                Err(_) => false,
            },
            Packet::V3_1_1Disconnect(_) => false,
            // Acknowledgements: the library keeps account of them.
            _ => true,
        }
    }

    async fn received(&mut self, session: &mut impl Session, publish: &v3_1_1::Publish) -> bool {
        if publish.qos() == Qos::ExactlyOnce {
            // IoT Hub and DPS close the connection of a client that publishes with QoS 2.
            return false;
        }
        let verdict = session.publish(Incoming {
            topic: publish.topic_name(),
            payload: publish.payload().as_slice(),
        });
        if verdict.await == Verdict::Close {
            return false;
        }
        let Some(id) = publish.packet_id() else {
            return true;
        };
        match v3_1_1::Puback::builder().packet_id(id).build() {
            Ok(answer) => self.send(answer.into()).await,
            Err(_) => false,
        }
    }

    async fn subscribe(
        &mut self,
        session: &mut impl Session,
        subscribe: &v3_1_1::Subscribe,
    ) -> bool {
        let granted = subscribe.entries().iter().map(|entry| {
            match (
                session.subscribe(entry.topic_filter()),
                entry.sub_opts().qos(),
            ) {
                (false, _) => SubackReturnCode::Failure,
                (true, Qos::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
                (true, _) => SubackReturnCode::SuccessMaximumQos1,
            }
        });
        let answer = v3_1_1::Suback::builder()
            .packet_id(subscribe.packet_id())
            .return_codes(granted.collect())
            .build();
        match answer {
            Ok(answer) => self.send(answer.into()).await,
            Err(_) => false,
        }
    }

    async fn publish(&mut self, message: Message) -> bool {
        let publish = v3_1_1::Publish::builder()
            .topic_name(message.topic)
            .and_then(|builder| {
                let builder = builder.qos(Qos::AtMostOnce).payload(message.payload);
                builder.build()
            });
        match publish {
            Ok(publish) => self.send(publish.into()).await,
            Err(error) => {
                tracing::warn!(?error, "a message for a device cannot be written");
                true
            }
        }
    }

    async fn send(&mut self, packet: Packet) -> bool {
        let events = self.protocol.send(packet);
        self.obey(events).await.1
    }

    /// Does what the library asks for; gives the packet it delivers and whether to go on.
    async fn obey(&mut self, events: Vec<Event>) -> (Option<Packet>, bool) {
        let (mut delivered, mut go_on) = (None, true);
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => delivered = Some(packet),
                Event::RequestSendPacket { packet, .. } => {
                    let bytes = packet.to_continuous_buffer();
                    go_on &= self.stream.write_all(&bytes).await.is_ok();
                    go_on &= self.stream.flush().await.is_ok();
                }
                Event::RequestTimerReset {
                    kind: TimerKind::PingreqRecv,
                    duration_ms,
                } => self.deadline = Some(Instant::now() + Duration::from_millis(duration_ms)),
                Event::RequestTimerCancel(TimerKind::PingreqRecv) => self.deadline = None,
                Event::NotifyError(error) => {
                    tracing::debug!(?error, "a client broke the protocol");
                    go_on = false;
                }
                Event::RequestClose => go_on = false,
                Event::NotifyPacketIdReleased(_)
                | Event::RequestTimerReset { .. }
                | Event::RequestTimerCancel(_) => {}
            }
        }
        (delivered, go_on)
    }

    async fn close(&mut self) {
        // The client may be gone already; there is nobody left to tell.
        let closed = tokio::time::timeout(Duration::from_secs(1), self.stream.shutdown());
        let _gone = closed.await;
    }
}
