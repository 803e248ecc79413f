//! Moves bytes between the socket of a connection and its [`Protocol`].
//!
//! There is no task that reads and no queue: whoever pulls reads, as much as it takes, and the rest
//! waits in the socket. So a hub that sends more than is asked for meets the window of TCP, and a
//! future that is dropped has changed nothing but what lies here. Nothing here waits or knows a
//! timeout.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use stamp_model::BatchLimits;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::time::Instant;

use super::super::dial::Stream;
use super::intake::Intake;
use super::protocol::Protocol;
use crate::HubError;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Box<dyn Stream>,
    pub(super) protocol: Protocol,
    pub(super) intake: Intake,
    /// `host:port`
    peer: String,
    /// How much of the output is written.
    written: usize,
    /// Whether something was written that the stream may hold back.
    unflushed: bool,
    /// Why nothing can be written any more. What the peer said before can still be read.
    write_failure: Option<io::Error>,
    /// When the peer last said something.
    pub(super) heard_at: Instant,
    /// When we last did.
    spoke_at: Instant,
}

impl Socket {
    pub(super) fn new(stream: Box<dyn Stream>, peer: String, protocol: Protocol) -> Self {
        let now = Instant::now();
        Self {
            stream,
            protocol,
            intake: Intake::default(),
            peer,
            written: 0,
            unflushed: false,
            write_failure: None,
            heard_at: now,
            spoke_at: now,
        }
    }

    /// Reads, handles and says what is due, until `done`. Cancel safe.
    pub(super) fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        done: impl Fn(&Protocol) -> bool,
    ) -> Poll<Result<(), HubError>> {
        const ANY: BatchLimits = BatchLimits {
            events_max: usize::MAX,
            bytes_max: usize::MAX,
            wait_max: Duration::ZERO,
        };
        self.poll_turns(cx, ANY, |socket| done(&socket.protocol))
    }

    /// Takes events up to the limits: ready with those that are there, pending when there is none.
    /// Cancel safe: what was taken stays.
    pub(super) fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        limits: BatchLimits,
    ) -> Poll<Result<(), HubError>> {
        let turned = self.poll_turns(cx, limits, |socket| socket.intake.is_full(limits));
        match turned {
            Poll::Pending if !self.intake.is_empty() => Poll::Ready(Ok(())),
            turned => turned,
        }
    }

    fn poll_turns(
        &mut self,
        cx: &mut Context<'_>,
        limits: BatchLimits,
        done: impl Fn(&Self) -> bool,
    ) -> Poll<Result<(), HubError>> {
        loop {
            let advanced = self.protocol.advance(&mut self.intake, limits);
            let flushed = self.poll_flush(cx);
            advanced?;
            if done(self) {
                return Poll::Ready(Ok(()));
            }
            if self.protocol.is_stuffed() && flushed.is_pending() {
                return Poll::Pending;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => {
                    let how = "the peer closed the connection";
                    let end = io::Error::new(io::ErrorKind::UnexpectedEof, how);
                    return Poll::Ready(Err(self.lost(end)));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(error))),
                Poll::Pending => {
                    return match self.write_failure.take() {
                        Some(error) if self.intake.is_empty() => Poll::Ready(Err(self.lost(error))),
                        failure => {
                            self.write_failure = failure;
                            Poll::Pending
                        }
                    };
                }
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let reading = self.stream.read_buf(self.protocol.space());
        let read = pin!(reading).poll(cx);
        if read.is_ready() {
            self.heard_at = Instant::now();
        }
        read
    }

    /// Writes what there is to say. An error is kept: reading comes to the same end, after what
    /// the peer said before.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_failure.is_some() {
            self.protocol.output().clear();
            self.written = 0;
            return Poll::Ready(());
        }
        let flushed = self.poll_write(cx);
        match flushed {
            Poll::Ready(Err(error)) => {
                self.write_failure = Some(error);
                Poll::Ready(())
            }
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.protocol.output().len() {
            let rest = &self.protocol.output()[self.written..];
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.unflushed = true;
                    self.spoke_at = Instant::now();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.protocol.output().clear();
        self.written = 0;
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives a sign of life when we said nothing for `period`, and writes what waits.
    pub(super) fn poll_beat(&mut self, cx: &mut Context<'_>, period: Duration) -> Poll<()> {
        if self.spoke_at.elapsed() >= period && self.protocol.output().is_empty() {
            self.protocol.beat();
        }
        self.poll_flush(cx)
    }

    /// How a connection that breaks is reported: before it is open, the peer was not reached.
    fn lost(&self, source: io::Error) -> HubError {
        if self.protocol.is_open() {
            HubError::ConnectionLost {
                detail: source.to_string(),
            }
        } else {
            HubError::Unreachable {
                peer: self.peer.clone(),
                source,
            }
        }
    }
}
