//! A connection whose other side has to take what it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Interval, interval_at};

/// A stream that fails when what was written is not taken in time. From the first moment in which
/// nothing more can be written, everything has to go out within the limit: a caller that reads a byte
/// now and then does not make it longer.
#[derive(Debug)]
pub(crate) struct Taken<S> {
    stream: S,
    longest: Duration,
    /// Runs while something waits to be taken.
    waits: Option<Interval>,
}

impl<S> Taken<S> {
    pub(crate) fn new(stream: S, longest: Duration) -> Self {
        Self {
            stream,
            longest,
            waits: None,
        }
    }

    /// Pending until the limit is over.
    fn poll_late<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let longest = self.longest;
        let waits = self
            .waits
            .get_or_insert_with(|| interval_at(Instant::now() + longest, longest));
        ready!(waits.poll_tick(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn stream(&mut self) -> Pin<&mut S>
    where
        S: Unpin,
    {
        Pin::new(&mut self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.stream().poll_write(context, bytes) {
            Poll::Pending => self.poll_late(context),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.stream().poll_write_vectored(context, bytes) {
            Poll::Pending => self.poll_late(context),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Everything that was written has gone out when this is ready.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream().poll_flush(context) {
            Poll::Pending => self.poll_late(context),
            flushed => {
                self.waits = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream().poll_shutdown(context) {
            Poll::Pending => self.poll_late(context),
            closed => closed,
        }
    }
}
