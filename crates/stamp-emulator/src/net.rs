//! Listening sockets of all emulators, and who comes to them. Knows nothing of what is spoken.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// Connections the kernel holds for us.
const BACKLOG: i32 = 1_024;

/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

/// Python's client reads the segment size of a loopback connection and sets it again; the kernel
/// refuses what it itself chose (32,768), unless the server asked for less.
#[cfg(target_os = "linux")]
const SEGMENT_BYTES: u32 = 32_000;

/// Listens; port 0 takes a free one.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_mss(SEGMENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Gives each connection a task of its own until `stop`, and waits for all of them. Those above
/// `connections_max` are closed at once. A task that panics is reported and ends only itself.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    protocol: &'static str,
    connections_max: usize,
    stop: CancellationToken,
    connection: impl Fn(TcpStream) -> F,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(protocol, ended),
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= connections_max => {
                    tracing::warn!(protocol, max = connections_max, "too many connections");
                }
                Ok((stream, _)) => {
                    if stream.set_nodelay(true).is_ok() {
                        connections.spawn(connection(stream));
                    }
                }
                Err(error) => {
                    // Out of file handles, most likely: give those that are open time to close.
                    tracing::warn!(protocol, %error, "cannot accept a connection");
                    let _stopped = tokio::time::timeout(ACCEPT_PAUSE, stop.cancelled()).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(protocol, ended);
    }
}

fn report(protocol: &'static str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(protocol, %error, "a connection's task failed");
    }
}

/// The stream under TLS, where the port has it; `None` when the client did not come through the
/// handshake.
pub(crate) async fn secured(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
) -> Option<Either<TlsStream<TcpStream>, TcpStream>> {
    let Some(tls) = tls else {
        return Some(Either::Right(stream));
    };
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Either::Left(stream)),
        Ok(Err(error)) => tracing::debug!(%error, "a client broke off the handshake"),
        Err(_elapsed) => tracing::debug!("a handshake passed its time limit"),
    }
    None
}
