//! The driver over real sockets: slow clients, silent clients, garbage, and the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::super::{Driver, OUT_BYTES_MAX, links};
use super::client::World;
use crate::Authority;
use crate::amqp::frame::{self, AMQP_HEADER, FrameKind};
use crate::amqp::performative::{self, Flow, Performative};
use crate::amqp::{code, encode as put};
use crate::eventhubs::config::{EmulatorConfig, HubConfig, Limits, TlsListen};
use crate::eventhubs::error::EmulatorError;
use crate::eventhubs::message::OutgoingEvent;
use crate::eventhubs::server::EventHubsEmulator;

const LISTEN: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

async fn start(limits: Limits) -> EventHubsEmulator {
    let config = EmulatorConfig {
        listen: SocketAddr::from(LISTEN),
        hubs: vec![HubConfig::default()],
        limits,
        ..EmulatorConfig::default()
    };
    EventHubsEmulator::start(config).await.unwrap()
}

type Socket = Either<TlsStream<TcpStream>, TcpStream>;

struct Peer {
    socket: Socket,
    input: BytesMut,
}

impl Peer {
    async fn connect(emulator: &EventHubsEmulator) -> Self {
        let socket = TcpStream::connect(emulator.address()).await.unwrap();
        Self::over(Either::Right(socket))
    }

    fn over(socket: Socket) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
        }
    }

    /// Header and `open`, with the idle time-out this client has.
    async fn open(emulator: &EventHubsEmulator, idle_ms: Option<u32>) -> Self {
        let mut peer = Self::connect(emulator).await;
        peer.say_open(idle_ms).await;
        peer
    }

    async fn say_open(&mut self, idle_ms: Option<u32>) {
        let mut bytes = AMQP_HEADER.to_vec();
        frame::put(&mut bytes, FrameKind::Amqp, 0, |out| {
            put::descriptor(out, code::OPEN);
            put::list(out, 5, |out| {
                put::string(out, "peer");
                put::null(out);
                put::uint(out, 65_000);
                put::null(out);
                put::or_null(out, idle_ms, put::uint);
            });
        });
        self.socket.write_all(&bytes).await.unwrap();
        let mut header = [0; 8];
        self.socket.read_exact(&mut header).await.unwrap();
        assert_eq!(header, AMQP_HEADER);
        assert!(matches!(self.next().await, Some(Performative::Open(_))));
    }

    /// The next frame; `None` at the end. A heartbeat is an `end`, which nothing else here is.
    async fn next(&mut self) -> Option<Performative> {
        loop {
            if let Some(frame) = frame::cut(&mut self.input, 65_000).unwrap() {
                if frame.body.is_empty() {
                    return Some(Performative::End);
                }
                return Some(performative::read(&frame.body).unwrap());
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Attaches a receiver of partition 0 with all the credit there is.
    async fn receive(&mut self) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, FrameKind::Amqp, 0, |out| {
            put::descriptor(out, code::BEGIN);
            put::list(out, 4, |out| {
                put::null(out);
                put::uint(out, 0);
                put::uint(out, u32::MAX);
                put::uint(out, u32::MAX);
            });
        });
        frame::put(&mut bytes, FrameKind::Amqp, 0, |out| {
            put::descriptor(out, code::ATTACH);
            put::list(out, 7, |out| {
                put::string(out, "reader");
                put::uint(out, 0);
                put::boolean(out, true);
                put::ubyte(out, 1);
                put::ubyte(out, 0);
                put::descriptor(out, code::SOURCE);
                put::list(out, 1, |out| {
                    put::string(out, "telemetry/ConsumerGroups/$Default/Partitions/0");
                });
                put::descriptor(out, code::TARGET);
                put::list(out, 0, |_| {});
            });
        });
        let flow = Flow {
            next_incoming_id: Some(0),
            incoming_window: u32::MAX,
            handle: Some(0),
            delivery_count: Some(0),
            link_credit: Some(u32::MAX),
            ..Flow::default()
        };
        frame::put(&mut bytes, FrameKind::Amqp, 0, |out| {
            performative::put_flow(out, &flow)
        });
        self.socket.write_all(&bytes).await.unwrap();
        assert!(matches!(self.next().await, Some(Performative::Begin(_))));
        assert!(matches!(self.next().await, Some(Performative::Attach(_))));
    }
}

fn publish(emulator: &EventHubsEmulator, events: u32, bytes: usize) {
    let hub = emulator.hub("telemetry").unwrap();
    let body = Bytes::from(vec![1; bytes]);
    for _ in 0..events {
        let event = OutgoingEvent {
            body: body.clone(),
            ..OutgoingEvent::default()
        };
        hub.publish(0, event).unwrap();
    }
}

/// A client that never says another word after its credit must still get everything, though the
/// socket is full again and again.
#[tokio::test]
async fn a_receiver_that_reads_slowly_is_never_forgotten() {
    let emulator = start(Limits::default()).await;
    publish(&emulator, 40_000, 1_000);
    let mut peer = Peer::open(&emulator, None).await;
    peer.receive().await;
    for n in 0..40_000_u32 {
        let Some(Performative::Transfer(transfer)) = peer.next().await else {
            panic!("at {n}")
        };
        assert_eq!(transfer.delivery_id, Some(n));
    }
    emulator.stop().await;
}

/// Takes a little at a time and never all, so that the buffer is never empty.
#[tokio::test]
async fn what_waits_for_a_slow_client_does_not_grow() {
    let world = World::new(HubConfig::default());
    world.publish(0, 200_000, 1_000);
    let listener = TcpListener::bind(LISTEN).await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let mut driver = Driver::new(accepted.into(), Arc::clone(&world.namespace));
    let mut peer = Peer::over(Either::Right(socket));
    {
        let mut attaching = std::pin::pin!(async {
            peer.say_open(None).await;
            peer.receive().await;
        });
        while waits(attaching.as_mut()).await {
            driver.turn();
        }
    }
    let Either::Right(socket) = &peer.socket else {
        unreachable!("it has no TLS")
    };
    let mut chunk = vec![0; 100_000];
    let mut taken = 0;
    while taken < 100_000_000 {
        driver.turn();
        let waiting = driver.engine.out().len();
        let bound = OUT_BYTES_MAX + 2 * links::PUMP_BYTES;
        assert!(waiting <= bound, "{waiting} bytes after {taken}");
        tokio::task::yield_now().await;
        taken += socket.try_read(&mut chunk).unwrap_or(0);
    }
}

/// Polls once, and lets the runtime look at its sockets; whether it still waits.
async fn waits(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let waits = future.poll(&mut context).is_pending();
    tokio::task::yield_now().await;
    waits
}

/// With and without TLS the same frames come, also where the socket is full, and the end is told.
#[tokio::test]
async fn a_client_with_tls_gets_what_one_without_gets_and_hears_the_end() {
    let authority = Arc::new(Authority::generate().unwrap());
    let config = EmulatorConfig {
        listen: SocketAddr::from(LISTEN),
        tls: Some(TlsListen {
            listen: SocketAddr::from(LISTEN),
            authority: Arc::clone(&authority),
        }),
        ..EmulatorConfig::default()
    };
    let emulator = EventHubsEmulator::start(config).await.unwrap();
    publish(&emulator, 10_000, 1_000);
    publish(&emulator, 1, 700_000);
    let plain = Peer::open(&emulator, None).await;
    let socket = TcpStream::connect(emulator.tls_address().unwrap())
        .await
        .unwrap();
    let name = "localhost".try_into().unwrap();
    let secured = authority
        .connector()
        .unwrap()
        .connect(name, socket)
        .await
        .unwrap();
    let mut secured = Peer::over(Either::Left(secured));
    secured.say_open(None).await;
    let mut payloads = Vec::new();
    for mut peer in [plain, secured] {
        peer.receive().await;
        let (mut whole, mut payload) = (0, Vec::new());
        while whole < 10_001 {
            let Some(Performative::Transfer(transfer)) = peer.next().await else {
                panic!("after {whole}")
            };
            payload.extend_from_slice(&transfer.payload);
            whole += usize::from(!transfer.more);
        }
        payloads.push((payload, peer));
    }
    assert!(payloads[0].0 == payloads[1].0);
    let stopped = tokio::spawn(emulator.stop());
    for (_, mut peer) in payloads {
        assert_eq!(peer.next().await, Some(Performative::Close));
        // Under TLS a cut connection is an error: this one was ended.
        assert_eq!(peer.socket.read(&mut [0; 1]).await.unwrap(), 0);
    }
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_client_without_tls_is_not_served_on_the_port_with_it() {
    let config = EmulatorConfig {
        listen: SocketAddr::from(LISTEN),
        tls: Some(TlsListen {
            listen: SocketAddr::from(LISTEN),
            authority: Arc::new(Authority::generate().unwrap()),
        }),
        ..EmulatorConfig::default()
    };
    let emulator = EventHubsEmulator::start(config).await.unwrap();
    let socket = TcpStream::connect(emulator.tls_address().unwrap())
        .await
        .unwrap();
    let mut peer = Peer::over(Either::Right(socket));
    peer.socket.write_all(&AMQP_HEADER).await.unwrap();
    let mut heard = Vec::new();
    // An alert of TLS, or nothing; and no word of AMQP.
    let _ = peer.socket.read_to_end(&mut heard).await;
    assert!(!heard.windows(4).any(|bytes| bytes == b"AMQP"), "{heard:?}");
    assert_eq!(emulator.counters().connections_opened, 0);
    emulator.stop().await;
}

#[tokio::test]
async fn events_published_later_reach_a_waiting_receiver() {
    let emulator = start(Limits::default()).await;
    let mut peer = Peer::open(&emulator, None).await;
    peer.receive().await;
    for n in 0..50 {
        publish(&emulator, 1, 10);
        let Some(Performative::Transfer(transfer)) = peer.next().await else {
            panic!("at {n}")
        };
        assert_eq!(transfer.delivery_id, Some(n));
    }
    emulator.stop().await;
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let emulator = start(Limits::default()).await;
    let mut good = Peer::open(&emulator, None).await;
    good.receive().await;
    let mut bad = Peer::open(&emulator, None).await;
    bad.socket.write_all(&[0xff; 64]).await.unwrap();
    assert_eq!(bad.next().await, Some(Performative::Close));
    assert_eq!(bad.next().await, None);
    publish(&emulator, 1, 10);
    assert!(matches!(good.next().await, Some(Performative::Transfer(_))));
    emulator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_with_an_idle_time_out_hears_heartbeats() {
    let emulator = start(Limits::default()).await;
    let mut peer = Peer::open(&emulator, Some(2_000)).await;
    for _ in 0..3 {
        assert_eq!(peer.next().await, Some(Performative::End));
    }
    drop(peer);
    emulator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_is_closed() {
    let idle_timeout = Duration::from_secs(60);
    let emulator = start(Limits {
        idle_timeout,
        ..Limits::default()
    })
    .await;
    let mut peer = Peer::open(&emulator, None).await;
    assert_eq!(peer.next().await, Some(Performative::Close));
    assert_eq!(peer.next().await, None);
    emulator.stop().await;
}

#[tokio::test]
async fn a_stopping_emulator_says_goodbye() {
    let emulator = start(Limits::default()).await;
    let mut peer = Peer::open(&emulator, None).await;
    let stopped = tokio::spawn(emulator.stop());
    assert_eq!(peer.next().await, Some(Performative::Close));
    assert_eq!(peer.next().await, None);
    stopped.await.unwrap();
}

#[tokio::test]
async fn serving_ends_with_its_shutdown() {
    let shutdown = tokio_util::sync::CancellationToken::new();
    let config = EmulatorConfig {
        listen: SocketAddr::from(LISTEN),
        ..EmulatorConfig::default()
    };
    let serving = tokio::spawn(crate::serve(config, shutdown.clone()));
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn cut_connections_end_without_a_word() {
    let emulator = start(Limits::default()).await;
    let mut peer = Peer::open(&emulator, None).await;
    peer.receive().await;
    assert_eq!(
        emulator
            .hub("telemetry")
            .unwrap()
            .faults()
            .drop_connections(),
        1
    );
    assert_eq!(peer.next().await, None);
    emulator.stop().await;
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_at_once() {
    let emulator = start(Limits {
        connections_max: 1,
        ..Limits::default()
    })
    .await;
    let first = Peer::open(&emulator, None).await;
    let mut second = Peer::connect(&emulator).await;
    assert_eq!(second.next().await, None);
    drop(first);
    assert_eq!(emulator.counters().connections_opened, 1);
    emulator.stop().await;
}

#[tokio::test]
async fn a_bad_configuration_names_its_value() {
    let hubs = |change: fn(&mut HubConfig)| {
        let mut hub = HubConfig::default();
        change(&mut hub);
        EmulatorConfig {
            hubs: vec![hub],
            ..EmulatorConfig::default()
        }
    };
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    for (config, name) in [
        (hubs(|hub| hub.partitions = 0), "partitions"),
        (hubs(|hub| hub.name = "a/b".into()), "name"),
        (
            hubs(|hub| hub.consumer_groups = vec![String::new()]),
            "consumer group",
        ),
        (
            EmulatorConfig {
                hubs: Vec::new(),
                ..EmulatorConfig::default()
            },
            "hubs",
        ),
        (
            EmulatorConfig {
                listen: everywhere,
                ..EmulatorConfig::default()
            },
            "listen",
        ),
        (
            EmulatorConfig {
                tls: Some(TlsListen {
                    listen: everywhere,
                    authority: Arc::new(Authority::generate().unwrap()),
                }),
                ..EmulatorConfig::default()
            },
            "tls.listen",
        ),
    ] {
        let error = EventHubsEmulator::start(config).await.unwrap_err();
        assert!(matches!(error, EmulatorError::Config(_)) && error.to_string().contains(name));
    }
    let emulator = start(Limits::default()).await;
    let taken = EmulatorConfig {
        listen: emulator.address(),
        ..EmulatorConfig::default()
    };
    let error = EventHubsEmulator::start(taken).await.unwrap_err();
    assert!(
        error.to_string().contains(&emulator.address().to_string()),
        "{error}"
    );
}
