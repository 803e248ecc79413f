//! A loopback proxy that breaks what passes through it, switched by a test while clients run.
//!
//! Between a client and an HTTP service it sees whole requests and replies, so that a reply can be
//! lost after the request was done. Between any other client and service it passes bytes, refuses,
//! freezes and cuts. It never repeats, reorders or changes what it lets through, and it holds at
//! most [`BODY_BYTES_MAX`] bytes of one message.

mod http;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use http::BODY_BYTES_MAX;
pub use rule::{Answer, Fault, Rule};

use http::{Message, Wire};

/// Most clients at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1_024;
/// Most requests that are remembered; older ones are only counted.
const SEEN_MAX: usize = 100_000;
const BACKLOG: u32 = 128;
/// A connection to the service that was idle for longer is not used again: the service may be
/// closing it (Azurite does after 5 s), and that would be a fault that no rule asked for.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// A request that was read completely, whatever then became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When its last byte was read.
    pub at: Instant,
    /// Such as `PUT`.
    pub method: String,
    /// Path and query, as on the wire.
    pub path: String,
    /// Whether a rule broke it.
    pub broken: bool,
}

/// What holds for every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Switch {
    refuses: bool,
    frozen: bool,
    /// Grows with each cut.
    cuts: u64,
    /// Grows when the rules are cleared, which ends what hangs.
    clears: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Bytes,
}

#[derive(Debug)]
struct Shared {
    protocol: Protocol,
    upstream: SocketAddr,
    address: SocketAddr,
    switch: watch::Sender<Switch>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<VecDeque<Seen>>,
    requests: AtomicU64,
    broken: AtomicU64,
    connections: AtomicU64,
}

/// A running proxy; dropping it ends it and every connection through it.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// In front of a service that speaks HTTP/1.1 without TLS, on a free loopback port. Must be
    /// called on a runtime.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn http(upstream: SocketAddr) -> io::Result<Self> {
        Self::start(Protocol::Http, upstream)
    }

    /// In front of any service over TCP, on a free loopback port. Must be called on a runtime.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn bytes(upstream: SocketAddr) -> io::Result<Self> {
        Self::start(Protocol::Bytes, upstream)
    }

    fn start(protocol: Protocol, upstream: SocketAddr) -> io::Result<Self> {
        // Bound but not listening: while it refuses, nobody else can get the port.
        let placeholder = socket((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = placeholder.local_addr()?;
        let listener = socket(address)?.listen(BACKLOG)?;
        let shared = Arc::new(Shared {
            protocol,
            upstream,
            address,
            switch: watch::Sender::default(),
            rules: Mutex::default(),
            seen: Mutex::default(),
            requests: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(shared.clone(), placeholder, listener));
        Ok(Self { shared, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// While on, connections are refused as where nobody listens, and the open ones are cut.
    pub fn refuse(&self, on: bool) {
        self.shared.switch.send_modify(|switch| switch.refuses = on);
    }

    /// While on, connections are accepted and kept, and not a byte passes either way.
    pub fn freeze(&self, on: bool) {
        self.shared.switch.send_modify(|switch| switch.frozen = on);
    }

    /// Cuts every open connection once; new ones are taken.
    pub fn cut(&self) {
        self.shared.switch.send_modify(|switch| switch.cuts += 1);
    }

    /// Adds a rule behind the others; the first one that fits a request breaks it.
    ///
    /// # Panics
    /// On a proxy that does not see requests.
    #[track_caller]
    pub fn inject(&self, rule: Rule) {
        assert_eq!(
            self.shared.protocol,
            Protocol::Http,
            "only HTTP has requests that rules could fit"
        );
        lock(&self.shared.rules).push(rule);
    }

    /// Everything off: rules, refusal, freezing. What hangs is cut.
    pub fn clear(&self) {
        lock(&self.shared.rules).clear();
        self.shared.switch.send_modify(|switch| {
            switch.refuses = false;
            switch.frozen = false;
            switch.clears += 1;
        });
    }

    /// Requests read so far, broken ones included. Always 0 where it does not see requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Requests that a rule broke so far.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Connections accepted so far; refused ones are not among them.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The last 100,000 requests, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).iter().cloned().collect()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket that may share its port with the others of this proxy.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts until the proxy is dropped, which drops the connections with this task.
async fn accept(shared: Arc<Shared>, _placeholder: TcpSocket, first: TcpListener) {
    let mut changes = shared.switch.subscribe();
    let mut now = *changes.borrow();
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let before = now;
                now = *changes.borrow_and_update();
                if now.refuses || now.cuts != before.cuts {
                    connections.abort_all();
                }
                listener = match listener {
                    _ if now.refuses => None,
                    Some(listener) => Some(listener),
                    None => socket(shared.address).and_then(|socket| socket.listen(BACKLOG)).ok(),
                };
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            client = next_client(listener.as_ref()), if connections.len() < CONNECTIONS_MAX => {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let shared = shared.clone();
                connections.spawn(async move {
                    // A broken connection is what this is for.
                    let _ended = match shared.protocol {
                        Protocol::Http => pass_requests(&shared, client).await,
                        Protocol::Bytes => pass_bytes(&shared, client).await,
                    };
                });
            }
        }
    }
}

/// The next client; never one while nobody listens.
async fn next_client(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
    }
}

async fn pass_bytes(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let server = connect(shared).await?;
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = copy(shared, from_client, to_server);
    let down = copy(shared, from_server, to_client);
    // When one direction ends, the connection does.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

async fn copy(shared: &Shared, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        shared.thawed().await;
        let count = from.read(&mut buffer).await?;
        // What was read just before the frost does not pass either.
        shared.thawed().await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let server = TcpStream::connect(shared.upstream).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

async fn pass_requests(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = Wire::new(client);
    let mut server: Option<(Wire, Instant)> = None;
    loop {
        let Some(request) = client.read_request().await? else {
            return Ok(());
        };
        shared.thawed().await;
        let fault = shared.judge(&request);
        if matches!(fault, Some(Fault::Cut)) {
            return Ok(());
        }
        if matches!(fault, Some(Fault::Hang)) {
            shared.hang(&mut client).await;
            return Ok(());
        }
        if let Some(Fault::Answer(answer)) = &fault {
            client.write(&answer.to_bytes(request.is_head())).await?;
            continue;
        }
        let fresh = server.take().filter(|(_, used)| used.elapsed() < IDLE_MAX);
        let mut upstream = match fresh {
            Some((wire, _)) => wire,
            None => Wire::new(connect(shared).await?),
        };
        let reply = match fault {
            Some(Fault::Slow { bytes_per_s }) => {
                write_paced(&mut upstream, request.bytes(), bytes_per_s).await?;
                let reply = upstream.read_reply(&request).await?;
                write_paced(&mut client, reply.bytes(), bytes_per_s).await?;
                reply
            }
            other => {
                upstream.write(request.bytes()).await?;
                let reply = upstream.read_reply(&request).await?;
                shared.thawed().await;
                match other {
                    Some(Fault::LoseReply) => return Ok(()),
                    Some(Fault::TearReply) => {
                        let half = reply.bytes().len() / 2;
                        return client.write(&reply.bytes()[..half]).await;
                    }
                    Some(Fault::AnswerAfter(answer)) => {
                        client.write(&answer.to_bytes(request.is_head())).await?;
                    }
                    _ => client.write(reply.bytes()).await?,
                }
                reply
            }
        };
        if reply.closes() {
            return Ok(());
        }
        server = Some((upstream, Instant::now()));
    }
}

async fn write_paced(wire: &mut Wire, bytes: &[u8], bytes_per_s: u32) -> io::Result<()> {
    const TICKS_PER_S: u32 = 20;
    let mut ticks = interval(Duration::from_secs(1) / TICKS_PER_S);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let slice = (bytes_per_s / TICKS_PER_S).max(1) as usize;
    for slice in bytes.chunks(slice) {
        ticks.tick().await;
        wire.write(slice).await?;
    }
    Ok(())
}

impl Shared {
    /// Counts a request and finds what breaks it.
    fn judge(&self, request: &Message) -> Option<Fault> {
        let (method, path) = request.method_and_path();
        let mut rules = lock(&self.rules);
        rules.retain(Rule::is_live);
        let fault = rules.iter_mut().find_map(|rule| rule.hit(method, path));
        drop(rules);
        self.requests.fetch_add(1, Ordering::Relaxed);
        if fault.is_some() {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
        let mut seen = lock(&self.seen);
        if seen.len() == SEEN_MAX {
            seen.pop_front();
        }
        seen.push_back(Seen {
            at: Instant::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            broken: fault.is_some(),
        });
        fault
    }

    /// Returns when nothing is frozen.
    async fn thawed(&self) {
        let mut changes = self.switch.subscribe();
        // An error means that the proxy is gone, and this connection with it.
        let _gone = changes.wait_for(|switch| !switch.frozen).await;
    }

    /// Holds a connection without a byte until the client leaves or the rules are cleared.
    async fn hang(&self, client: &mut Wire) {
        let clears = self.switch.borrow().clears;
        let mut changes = self.switch.subscribe();
        tokio::select! {
            () = client.gone() => {}
            _cleared = changes.wait_for(|switch| switch.clears != clears) => {}
        }
    }
}
