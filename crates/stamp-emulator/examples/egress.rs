//! How fast the emulator serves one receiver, without the cost of a real client: publishes events,
//! receives them over a socket with a few lines of hand-written AMQP, prints events per second.
//!
//! `cargo run --release -p stamp-emulator --example egress -- [events] [body bytes] [credit]`

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use bytes::Bytes;
use stamp_emulator::{EmulatorConfig, EventHubsEmulator, HubConfig, OutgoingEvent, Retention};

/// One frame: its performative's code and how it was framed do not matter to the caller.
fn frame(body: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut frame = u32::try_from(body.len() + 8)?.to_be_bytes().to_vec();
    frame.extend_from_slice(&[2, 0, 0, 0]);
    frame.extend_from_slice(body);
    Ok(frame)
}

fn list(code: u8, count: u8, fields: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut body = vec![0x00, 0x53, code, 0xd0];
    body.extend_from_slice(&u32::try_from(fields.len() + 4)?.to_be_bytes());
    body.extend_from_slice(&u32::from(count).to_be_bytes());
    body.extend_from_slice(fields);
    frame(&body)
}

fn text(code: u8, text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut value = vec![code, u8::try_from(text.len())?];
    value.extend_from_slice(text.as_bytes());
    Ok(value)
}

fn uint(value: u32) -> [u8; 5] {
    let [a, b, c, d] = value.to_be_bytes();
    [0x70, a, b, c, d]
}

/// `flow`: the client has taken `taken` transfers and wants up to `credit` more.
fn flow(taken: u32, credit: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let fields = [
        uint(taken),
        uint(u32::MAX),
        uint(0),
        uint(u32::MAX),
        uint(0),
        uint(taken),
        uint(credit),
    ];
    list(0x13, 7, &fields.concat())
}

fn attach() -> Result<Vec<u8>, Box<dyn Error>> {
    let source = text(0xa1, "telemetry/ConsumerGroups/$Default/Partitions/0")?;
    let mut described = vec![0x00, 0x53, 0x28, 0xc0, u8::try_from(source.len() + 1)?, 1];
    described.extend_from_slice(&source);
    let mut fields = text(0xa1, "reader")?;
    fields.extend_from_slice(&uint(0));
    // Role receiver, senders settle on sending, source, an empty target.
    fields.extend_from_slice(&[0x41, 0x50, 1, 0x50, 0]);
    fields.extend_from_slice(&described);
    fields.extend_from_slice(&[0x00, 0x53, 0x29, 0x45]);
    list(0x12, 7, &fields)
}

/// Receives `events` events and gives the bytes of their frames.
fn receive(address: SocketAddr, events: u32, credit: u32) -> Result<u64, Box<dyn Error>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.write_all(b"AMQP\x00\x01\x00\x00")?;
    let mut open = text(0xa1, "egress")?;
    open.push(0x40);
    open.extend_from_slice(&uint(65_000));
    socket.write_all(&list(0x10, 3, &open)?)?;
    let begin = [&[0x40][..], &uint(0), &uint(u32::MAX), &uint(u32::MAX)].concat();
    socket.write_all(&list(0x11, 4, &begin)?)?;
    socket.write_all(&attach()?)?;
    socket.write_all(&flow(0, credit)?)?;
    let (mut taken, mut granted, mut bytes) = (0_u32, credit, 0_u64);
    let mut buffer = vec![0; 1 << 20];
    let (mut start, mut end) = (0, 0);
    let mut header = true;
    while taken < events {
        if start > 0 {
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
        }
        match socket.read(&mut buffer[end..])? {
            0 => return Err("the emulator closed the connection".into()),
            n => end += n,
        }
        if header && end >= 8 {
            (start, header) = (8, false);
        }
        while let Some(&[a, b, c, d, _, _, _, _, _, _, code]) = buffer[start..end].first_chunk() {
            let size = u32::from_be_bytes([a, b, c, d]) as usize;
            if end - start < size {
                break;
            }
            if code == 0x14 {
                taken += 1;
                bytes += size as u64;
            }
            start += size;
        }
        if granted - taken < credit / 2 {
            granted = taken + credit;
            socket.write_all(&flow(taken, credit)?)?;
        }
    }
    Ok(bytes)
}

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "the figures are what the example is for"
)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let events: u32 = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let body: usize = arguments.next().map_or(Ok(280), |text| text.parse())?;
    let credit: u32 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let retention = Retention {
        bytes_max: 8 << 30,
        ..Retention::default()
    };
    let hub = HubConfig {
        partitions: 1,
        retention,
        ..HubConfig::default()
    };
    let emulator = EventHubsEmulator::start(EmulatorConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        hubs: vec![hub],
        ..EmulatorConfig::default()
    })
    .await?;
    let hub = emulator.hub("telemetry").ok_or("no hub")?;
    let stamp = stamp_model::HubStamp {
        device_id: Some("device-0042".into()),
        enqueued_at_us: Some(1_700_000_000_000_000),
        source: stamp_model::MessageSource::Telemetry,
        ..stamp_model::HubStamp::default()
    };
    let event = OutgoingEvent {
        body: Bytes::from(vec![b'x'; body]),
        hub: stamp,
        properties: vec![("kind".into(), "reading".into())],
        ..OutgoingEvent::default()
    };
    let published = Instant::now();
    for _ in 0..events {
        hub.publish(0, event.clone())?;
    }
    let published = published.elapsed().as_secs_f64();
    let address = emulator.address();
    let received = Instant::now();
    let bytes = tokio::task::spawn_blocking(move || {
        receive(address, events, credit).map_err(|error| error.to_string())
    })
    .await??;
    let received = received.elapsed().as_secs_f64();
    let count = f64::from(events);
    println!("published {:>12.0} events/s in process", count / published);
    println!(
        "received  {:>12.0} events/s, {:.0} MB/s, {} bytes a frame, credit {credit}",
        count / received,
        bytes as f64 / received / 1e6,
        bytes / u64::from(events),
    );
    emulator.stop().await;
    Ok(())
}
