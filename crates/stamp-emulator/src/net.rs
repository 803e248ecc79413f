//! Listening sockets of all emulators.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections the kernel holds for us.
const BACKLOG: i32 = 1_024;

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
