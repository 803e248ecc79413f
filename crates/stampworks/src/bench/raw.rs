//! A receiver that does the least a receiver may: it cuts frames, counts deliveries, settles them in ranges and
//! renews its credit. It looks into no message, so what it takes a second is what the server can give.
//!
//! Written for the emulator that the bench starts; for anything else there is `stamp-eventhubs`. It never
//! reconnects: whatever ends the link ends the measurement.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Deliveries on their way at most. Half of them are settled at a time.
const CREDIT: u32 = 20_000;
/// Of one read.
const READ_BYTES: usize = 256 * 1024;
/// Largest frame that is taken; the emulator's are a little smaller.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Nothing comes for this long: the server has stalled.
const SILENCE_MAX: Duration = Duration::from_secs(20);

const TRANSFER: u8 = 0x14;
const DISPOSITION: u8 = 0x15;

/// Receives `events` events of a partition from its beginning, and gives how many came: a few more, as many as had
/// come with the last of them. Blocks.
///
/// # Errors
/// The socket's, and `InvalidData` with what came instead of a transfer.
pub(super) fn receive(address: &str, hub: &str, partition: u32, events: u64) -> io::Result<u64> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut receiver = Receiver {
        stream,
        input: vec![0; READ_BYTES + FRAME_BYTES_MAX],
        filled: 0,
        received: 0,
        transfers: 0,
        settled: 0,
    };
    receiver.attach(hub, partition)?;
    while receiver.received < events {
        receiver.turn()?;
    }
    Ok(receiver.received)
}

struct Receiver {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` that are not handled yet.
    filled: usize,
    /// Whole events.
    received: u64,
    /// Transfer frames, which are more than events when some are large.
    transfers: u32,
    /// Deliveries that were settled. Ids begin at 0 and have no gaps.
    settled: u32,
}

impl Receiver {
    /// Says everything up to the first credit at once; the answers are stepped over later.
    fn attach(&mut self, hub: &str, partition: u32) -> io::Result<()> {
        let mut out = b"AMQP\x00\x01\x00\x00".to_vec();
        // container-id, hostname, max-frame-size
        frame(&mut out, 0x10, 3, |out| {
            text(out, "stampworks-bench");
            text(out, "localhost");
            uint(out, 65_536);
        });
        // remote-channel, next-outgoing-id, incoming-window, outgoing-window
        frame(&mut out, 0x11, 4, |out| {
            out.push(0x40);
            uint(out, 0);
            uint(out, u32::MAX);
            uint(out, u32::MAX);
        });
        let source = format!("{hub}/ConsumerGroups/$Default/Partitions/{partition}");
        // name, handle, role, snd-settle-mode, rcv-settle-mode, source, target
        frame(&mut out, 0x12, 7, |out| {
            text(out, "bench");
            uint(out, 0);
            out.extend_from_slice(&[0x41, 0x40, 0x40]);
            out.extend_from_slice(&[0x00, 0x53, 0x28]);
            list(out, 1, |out| text(out, &source));
            out.extend_from_slice(&[0x00, 0x53, 0x29]);
            list(out, 1, |out| out.push(0x40));
        });
        self.put_flow(&mut out);
        self.stream.write_all(&out)?;
        // The server's protocol header is no frame.
        let mut header = [0; 8];
        self.stream.read_exact(&mut header)
    }

    /// Takes what has come, and settles it when it is half of the credit.
    fn turn(&mut self) -> io::Result<()> {
        let count = self.stream.read(&mut self.input[self.filled..])?;
        if count == 0 {
            return Err(wrong("the connection was closed"));
        }
        self.filled += count;
        let mut at = 0;
        while let Some(size) = frame_size(&self.input[at..self.filled])? {
            let body = &self.input[at + 8..at + size];
            match body {
                // A heartbeat; the answers to open, begin and attach; a flow.
                [] | [0x00, 0x53, 0x10..=0x13, ..] => {}
                [0x00, 0x53, TRANSFER, rest @ ..] => {
                    self.transfers = self.transfers.wrapping_add(1);
                    self.received += u64::from(is_last(rest)?);
                }
                [0x00, 0x53, code, ..] => {
                    return Err(wrong(&format!("performative {code:#x} came")));
                }
                _ => return Err(wrong("a frame that is no performative came")),
            }
            at += size;
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        let (seen, first) = (self.seen(), self.settled);
        if seen.wrapping_sub(first) >= CREDIT / 2 {
            let mut out = Vec::with_capacity(128);
            // role, first, last, settled, state
            frame(&mut out, DISPOSITION, 5, |out| {
                out.push(0x41);
                uint(out, first);
                uint(out, seen.wrapping_sub(1));
                out.extend_from_slice(&[0x41, 0x00, 0x53, 0x24, 0x45]);
            });
            self.settled = seen;
            self.put_flow(&mut out);
            self.stream.write_all(&out)?;
        }
        Ok(())
    }

    /// Deliveries so far, as AMQP counts them: modulo 2^32.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "AMQP counts deliveries modulo 2^32"
    )]
    fn seen(&self) -> u32 {
        self.received as u32
    }

    fn put_flow(&self, out: &mut Vec<u8>) {
        // next-incoming-id, incoming-window, next-outgoing-id, outgoing-window, handle, delivery-count, link-credit
        frame(out, 0x13, 7, |out| {
            for value in [
                self.transfers,
                u32::MAX,
                0,
                u32::MAX,
                0,
                self.seen(),
                CREDIT,
            ] {
                uint(out, value);
            }
        });
    }
}

/// Size of the frame at the front, once all of it is there.
fn frame_size(input: &[u8]) -> io::Result<Option<usize>> {
    let Some([a, b, c, d, offset, ..]) = input.first_chunk::<8>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if !(8..=FRAME_BYTES_MAX).contains(&size) || *offset != 2 {
        return Err(wrong(&format!("a frame of {size} bytes came")));
    }
    Ok((input.len() >= size).then_some(size))
}

/// Whether a transfer, of which `fields` is the list, ends its delivery: `more` is its sixth field.
fn is_last(fields: &[u8]) -> io::Result<bool> {
    let (mut left, mut rest) = match fields {
        [0xc0, _, count, rest @ ..] => (u32::from(*count), rest),
        [0xd0, _, _, _, _, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
        _ => return Err(wrong("a transfer without fields came")),
    };
    // handle, delivery-id, delivery-tag, message-format, settled
    for _ in 0..5_u32.min(left) {
        let size = match rest {
            [0x40..=0x45, ..] => 1,
            [0x50..=0x56, ..] => 2,
            [0x70, ..] => 5,
            [0xa0, size, ..] => 2 + usize::from(*size),
            _ => return Err(wrong("a transfer with an unknown field came")),
        };
        rest = rest
            .get(size..)
            .ok_or_else(|| wrong("a transfer ends within a field"))?;
        left -= 1;
    }
    Ok(left == 0 || !matches!(rest, [0x41, ..] | [0x56, 1, ..]))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn uint(out: &mut Vec<u8>, value: u32) {
    out.push(0x70);
    out.extend_from_slice(&value.to_be_bytes());
}

/// A short text: everything that this module says is far below 255 bytes, but for a hub's name of up to 256.
fn text(out: &mut Vec<u8>, text: &str) {
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.push(0xb1);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn list(out: &mut Vec<u8>, count: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(0xd0);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&count.to_be_bytes());
    fill(out);
    let size = out.len() - at - 4;
    patch(out, at, size);
}

/// A frame on channel 0 with a performative of `count` fields.
fn frame(out: &mut Vec<u8>, code: u8, count: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, 2, 0, 0, 0, 0x00, 0x53, code]);
    list(out, count, fill);
    let size = out.len() - at;
    patch(out, at, size);
}

fn patch(out: &mut [u8], at: usize, size: usize) {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use stamp_emulator::{EmulatorConfig, EventHubsEmulator, OutgoingEvent};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_event_is_counted_once_whether_in_one_frame_or_in_many() {
        let emulator = EventHubsEmulator::start(EmulatorConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..EmulatorConfig::default()
        })
        .await
        .unwrap();
        let hub = emulator.hub("telemetry").unwrap();
        // More than the credit, so that it has to be renewed; one in a thousand takes several frames.
        let events = u64::from(CREDIT) * 2 + 500;
        for n in 0..events {
            let size = if n % 1_000 == 0 { 150_000 } else { 10 };
            let body = vec![b'x'; size].into();
            let event = OutgoingEvent {
                body,
                ..OutgoingEvent::default()
            };
            hub.publish(0, event).unwrap();
        }
        let address = emulator.address().to_string();
        let receiving =
            tokio::task::spawn_blocking(move || receive(&address, "telemetry", 0, events));
        assert_eq!(receiving.await.unwrap().unwrap(), events);
        assert_eq!(hub.counters().events_sent, events);
        assert!(hub.counters().dispositions_received >= 3);
        emulator.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_ends_the_link_is_told() {
        let emulator = EventHubsEmulator::start(EmulatorConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..EmulatorConfig::default()
        })
        .await
        .unwrap();
        let address = emulator.address().to_string();
        let receiving = tokio::task::spawn_blocking(move || receive(&address, "other", 0, 1));
        let error = receiving.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("0x16"), "{error}");
        emulator.stop().await;
    }
}
