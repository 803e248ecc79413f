//! One client's connection: moves bytes between its socket and its [`engine::Engine`].

mod attach;
mod egress;
pub(super) mod engine;
mod link;
mod links;
mod request;
mod session;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::engine::Engine;
pub(super) use self::transport::Transport;
use super::server::Namespace;
use super::signal::Signal;
use crate::amqp::frame;
use crate::amqp::performative::AmqpError;

/// Bytes that are read at once, at least.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that may wait for a slow client before nothing more is read from it.
const OUT_BYTES_MAX: usize = 1024 * 1024;

/// How long a client may take to accept the last bytes and close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

struct Driver {
    stream: Transport,
    signal: Arc<Signal>,
    engine: Engine,
    input: BytesMut,
    /// How much of the engine's buffer is written.
    written: usize,
    idle_timeout: Duration,
    heard_at: Instant,
    spoke_at: Instant,
    /// When the client was told that the connection is over.
    closing_at: Option<Instant>,
}

/// Whether a connection goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait { more: bool },
    Close,
}

/// Serves one connection until either side ends it, it falls silent, or `stop` says so.
pub(super) async fn run(stream: Transport, namespace: Arc<Namespace>, stop: CancellationToken) {
    let mut driver = Driver::new(stream, namespace);
    let stopped = driver.serve(&stop).await;
    if driver.signal.is_dropped() {
        return;
    }
    if stopped {
        driver.engine.close(&AmqpError::new(
            "amqp:connection:forced",
            "the emulator stops",
        ));
    }
    driver.flush(Instant::now() + CLOSE_GRACE).await;
}

impl Driver {
    fn new(stream: Transport, namespace: Arc<Namespace>) -> Self {
        let signal = Arc::new(Signal::default());
        let now = Instant::now();
        Self {
            stream,
            idle_timeout: namespace.limits.idle_timeout,
            engine: Engine::new(namespace, Arc::clone(&signal)),
            signal,
            input: BytesMut::with_capacity(READ_BYTES),
            written: 0,
            heard_at: now,
            spoke_at: now,
            closing_at: None,
        }
    }

    /// Runs until the connection is over; whether that was because of `stop`.
    async fn serve(&mut self, stop: &CancellationToken) -> bool {
        loop {
            if self.signal.is_dropped() {
                return false;
            }
            let frozen = self.engine.is_frozen();
            let more = if frozen {
                false
            } else {
                match self.turn() {
                    Next::Close => return false,
                    Next::Wait { more } => more,
                }
            };
            let interest = if frozen { None } else { self.interest(more) };
            let deadline = self.deadline(frozen);
            tokio::select! {
                () = stop.cancelled() => return true,
                () = self.signal.woken() => {}
                ready = timeout_at(deadline, self.stream.ready(interest)) => {
                    if matches!(ready, Ok(Err(_))) {
                        return false;
                    }
                }
            }
        }
    }

    /// Reads, handles, sends and writes whatever can be done without waiting.
    fn turn(&mut self) -> Next {
        let now = Instant::now();
        let mut read = false;
        if self.pending() < OUT_BYTES_MAX {
            self.input.reserve(READ_BYTES);
            match self.stream.try_read(&mut self.input) {
                Ok(0) => return Next::Close,
                Ok(_) => {
                    read = true;
                    self.heard_at = now;
                    self.engine.feed(&mut self.input);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return Next::Close,
            }
        }
        if now >= self.heard_at + self.idle_timeout {
            let text = "nothing was received for the idle timeout";
            self.engine
                .close(&AmqpError::new("amqp:connection:forced", text));
            return Next::Close;
        }
        // With the buffer still full nobody has asked whether there is more.
        let mut more = true;
        if self.pending() < links::PUMP_BYTES / 2 {
            more = self.engine.pump(now);
        }
        self.beat(now);
        let answers = self.pending() > 0;
        if self.write(now).is_err() {
            return Next::Close;
        }
        if read && !answers {
            acknowledge(self.stream.socket());
        }
        if self.engine.is_closing() {
            self.closing_at.get_or_insert(now);
        }
        let given_up = self.closing_at.is_some_and(|at| now >= at + CLOSE_GRACE);
        if given_up || (self.engine.is_done() && self.pending() == 0) {
            return Next::Close;
        }
        Next::Wait { more }
    }

    /// Says something before the client's patience ends.
    fn beat(&mut self, now: Instant) {
        if let Some(idle) = self.engine.peer_idle()
            && now >= self.spoke_at + idle / 2
            && self.pending() == 0
            && !self.engine.is_done()
        {
            frame::put_empty(self.engine.out());
        }
    }

    /// Bytes that are still to be written; what TLS holds counts as one more.
    fn pending(&mut self) -> usize {
        self.engine.out().len() - self.written + usize::from(self.stream.is_holding())
    }

    fn write(&mut self, now: Instant) -> std::io::Result<()> {
        while self.pending() > 0 {
            match self.stream.try_write(&self.engine.out()[self.written..]) {
                Ok(n) => {
                    self.written += n;
                    self.spoke_at = now;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        // A slow client may never take everything: what it has taken must not pile up.
        let written = self.written;
        if self.pending() == 0 || written >= links::PUMP_BYTES {
            self.engine.out().drain(..written);
            self.written = 0;
        }
        Ok(())
    }

    fn interest(&mut self, more: bool) -> Option<Interest> {
        let pending = self.pending();
        let writes = (pending > 0 || more).then_some(Interest::WRITABLE);
        let reads = (pending < OUT_BYTES_MAX).then_some(Interest::READABLE);
        match (reads, writes) {
            (Some(reads), Some(writes)) => Some(reads | writes),
            (reads, writes) => reads.or(writes),
        }
    }

    fn deadline(&mut self, frozen: bool) -> Instant {
        if frozen {
            return Instant::now() + self.idle_timeout;
        }
        let silence = self.heard_at + self.idle_timeout;
        let beat = self.engine.peer_idle().map(|idle| self.spoke_at + idle / 2);
        // A client that does not read gets no heartbeat and no further burst.
        let writes = self.pending() == 0;
        let times = [beat, self.engine.deadline()].map(|at| at.filter(|_| writes));
        let close = self.closing_at.map(|at| at + CLOSE_GRACE);
        times
            .into_iter()
            .chain([close])
            .flatten()
            .fold(silence, Instant::min)
    }

    /// Gives the client a moment to take the last bytes.
    async fn flush(&mut self, until: Instant) {
        if self.flush_once(until).await {
            self.stream.finish();
            self.flush_once(until).await;
        }
    }

    /// Whether everything was written in time.
    async fn flush_once(&mut self, until: Instant) -> bool {
        while self.write(Instant::now()).is_ok() {
            if self.pending() == 0 {
                return true;
            }
            match timeout_at(until, self.stream.socket().writable()).await {
                Ok(Ok(())) => {}
                _ => return false,
            }
        }
        false
    }
}

/// Acknowledges what was read at once. Clients that keep Nagle's algorithm on would otherwise hold
/// their next small frame back until the kernel's delayed acknowledgement, 40 ms later.
#[cfg(target_os = "linux")]
fn acknowledge(stream: &TcpStream) {
    // Failing costs speed only.
    let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
}

#[cfg(not(target_os = "linux"))]
fn acknowledge(_stream: &TcpStream) {}

#[cfg(test)]
mod tests;
