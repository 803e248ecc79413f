//! The bytes of one connection, plain or under TLS, without waiting. Never interprets them.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};

use bytes::BytesMut;
use rustls::ServerConnection;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Bytes that TLS may hold for a slow client: what it encrypts at once, and writes at once.
const TLS_OUT_BYTES: usize = 128 * 1024;

/// See the module.
pub(in crate::eventhubs) enum Transport {
    Plain(TcpStream),
    Tls(TcpStream, Box<ServerConnection>),
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl From<TlsStream<TcpStream>> for Transport {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        let (socket, mut tls) = stream.into_inner();
        tls.set_buffer_limit(Some(TLS_OUT_BYTES));
        Self::Tls(socket, Box::new(tls))
    }
}

impl Transport {
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) | Self::Tls(socket, _) => socket,
        }
    }

    /// Appends what has come to `input` and gives how many bytes that were; 0 when the client has
    /// ended the connection.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come, else what ends the connection.
    pub(super) fn try_read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read_buf(input),
            Self::Tls(socket, tls) => read_tls(socket, tls, input),
        }
    }

    /// Writes as much of `bytes` as the socket takes; with none, what TLS holds. Gives how many of
    /// them are taken.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full, else what ends the connection.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(socket, tls) => write_tls(socket, tls, bytes),
        }
    }

    /// Whether bytes that were taken are not written yet.
    pub(super) fn is_holding(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(_, tls) => tls.wants_write(),
        }
    }

    /// Says that nothing more comes, where the protocol has a word for it.
    pub(super) fn finish(&mut self) {
        if let Self::Tls(_, tls) = self {
            tls.send_close_notify();
        }
    }

    /// Waits until the socket can do one of the things; forever when there is none.
    pub(super) async fn ready(&self, interest: Option<Interest>) -> io::Result<()> {
        match interest {
            Some(interest) => self.socket().ready(interest).await.map(|_| ()),
            None => std::future::pending().await,
        }
    }
}

/// Takes everything that is decrypted: readiness of the socket says nothing about it later.
fn read_tls(
    socket: &TcpStream,
    tls: &mut ServerConnection,
    input: &mut BytesMut,
) -> io::Result<usize> {
    let before = input.len();
    loop {
        let mut reader = tls.reader();
        loop {
            let size = match reader.fill_buf() {
                Ok(chunk) => {
                    input.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What came before the end is handled first.
                Err(_) if input.len() > before => 0,
                Err(error) => return Err(error),
            };
            if size == 0 {
                return Ok(input.len() - before);
            }
            reader.consume(size);
        }
        if input.len() > before {
            return Ok(input.len() - before);
        }
        // The end of the stream is what the reader says next.
        tls.read_tls(&mut Socket(socket))?;
        tls.process_new_packets()
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    }
}

fn write_tls(socket: &TcpStream, tls: &mut ServerConnection, bytes: &[u8]) -> io::Result<usize> {
    flush_tls(socket, tls)?;
    let taken = tls.writer().write(bytes)?;
    match flush_tls(socket, tls) {
        Err(error) if error.kind() != ErrorKind::WouldBlock || taken == 0 => Err(error),
        _ => Ok(taken),
    }
}

fn flush_tls(socket: &TcpStream, tls: &mut ServerConnection) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut Socket(socket))?;
    }
    Ok(())
}

/// A socket whose calls never wait, for a library that reads and writes by itself.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
