//! Whole HTTP/1.1 messages on a connection, kept as the bytes they came in.
//!
//! As much of RFC 9112 as finds the end of a message: `Content-Length`, chunks, and replies that
//! end with their connection. What is not understood ends the connection.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest head of a message, in bytes.
const HEAD_BYTES_MAX: usize = 65_536;
/// Largest body of a message, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// One message: its head, its body as on the wire, and where one ends and the other begins.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    head: String,
    until_close: bool,
}

/// How a body's end is found.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Absent,
    Bytes(usize),
    Chunks,
    UntilClose,
}

impl Message {
    /// One without a body.
    pub(super) fn of_head(head: String) -> Self {
        Self {
            bytes: head.clone().into_bytes(),
            head,
            until_close: false,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of a request.
    pub(super) fn method_and_path(&self) -> (&str, &str) {
        let mut words = self.head.split(' ');
        (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        )
    }

    pub(super) fn is_head(&self) -> bool {
        self.method_and_path().0 == "HEAD"
    }

    /// Whether the connection ends after this reply.
    pub(super) fn closes(&self) -> bool {
        self.until_close
            || header(&self.head, "connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn status(&self) -> u16 {
        let word = self.head.split(' ').nth(1);
        word.and_then(|word| word.parse().ok()).unwrap_or_default()
    }
}

/// A connection and what was read from it beyond the last message.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Returns when the other side has closed; what it sends before is dropped.
    pub(super) async fn gone(&mut self) {
        let mut buffer = [0; 4_096];
        while let Ok(1..) = self.stream.read(&mut buffer).await {}
    }

    /// The next request; `None` when the client has closed after the last one.
    pub(super) async fn read_request(&mut self) -> io::Result<Option<Message>> {
        let Some(message) = self.read_head().await? else {
            return Ok(None);
        };
        let body = body_of(&message.head)?.unwrap_or(Body::Absent);
        self.read_body(message, body).await.map(Some)
    }

    /// The reply to `request`.
    pub(super) async fn read_reply(&mut self, request: &Message) -> io::Result<Message> {
        loop {
            let head = self.read_head().await?;
            let message = head.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = message.status();
            if (100..200).contains(&status) {
                continue;
            }
            let body = if request.is_head() || status == 204 || status == 304 {
                Body::Absent
            } else {
                body_of(&message.head)?.unwrap_or(Body::UntilClose)
            };
            return self.read_body(message, body).await;
        }
    }

    async fn read_head(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let rest = self.ahead.split_off(end + 4);
                let bytes = std::mem::replace(&mut self.ahead, rest);
                let head = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Message::of_head(head)));
            }
            if self.ahead.len() > HEAD_BYTES_MAX {
                return Err(invalid("a head without an end"));
            }
            if self.read_more().await? == 0 {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    async fn read_body(&mut self, mut message: Message, body: Body) -> io::Result<Message> {
        match body {
            Body::Absent => {}
            Body::Bytes(count) => self.take(count, &mut message.bytes).await?,
            Body::Chunks => loop {
                let size = self.take_line(&mut message.bytes).await?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).map_err(|_| invalid("a chunk"))?;
                if size == 0 {
                    while !self.take_line(&mut message.bytes).await?.is_empty() {}
                    break;
                }
                self.take(size.saturating_add(2), &mut message.bytes)
                    .await?;
            },
            Body::UntilClose => {
                message.until_close = true;
                while self.read_more().await? > 0 {
                    if self.ahead.len() > BODY_BYTES_MAX {
                        return Err(invalid("a body over the limit"));
                    }
                }
                message.bytes.append(&mut self.ahead);
            }
        }
        Ok(message)
    }

    /// Moves exactly `count` bytes to `to`.
    async fn take(&mut self, count: usize, to: &mut Vec<u8>) -> io::Result<()> {
        if count.saturating_add(to.len()) > BODY_BYTES_MAX {
            return Err(invalid("a body over the limit"));
        }
        while self.ahead.len() < count {
            if self.read_more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        to.extend(self.ahead.drain(..count));
        Ok(())
    }

    /// Moves a line with its end to `to`, and gives it without.
    async fn take_line(&mut self, to: &mut Vec<u8>) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.take(end + 2, to).await?;
                return Ok(line);
            }
            if self.ahead.len() > HEAD_BYTES_MAX {
                return Err(invalid("a line without an end"));
            }
            if self.read_more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.ahead).await
    }
}

/// How the body's end is found, when the head says so.
fn body_of(head: &str) -> io::Result<Option<Body>> {
    if header(head, "transfer-encoding").is_some_and(|value| value.ends_with("chunked")) {
        return Ok(Some(Body::Chunks));
    }
    match header(head, "content-length") {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(count) => Ok(Some(Body::Bytes(count))),
            Err(_) => Err(invalid("a content-length that is no number")),
        },
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .next()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
