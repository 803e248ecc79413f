//! Drives the table library's asynchronous requests on the blocking thread that asked for them.
//!
//! The table library is synchronous and hands each request to an executor. Its own executors
//! either need a multi-threaded runtime or a thread of their own per table; this one polls on the
//! calling thread, so that the same code runs on a production runtime and on a paused
//! single-threaded one in simulations. Never call it on a runtime's worker thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use delta_kernel::{KernelError, KernelResult};
use delta_kernel_default_engine::executor::TaskExecutor;
use futures_util::future::BoxFuture;
use tokio::runtime::{EnterGuard, Handle};

/// Polls on the calling thread; timers and sockets belong to `runtime`.
#[derive(Debug)]
pub(crate) struct CallingThread {
    runtime: Handle,
}

impl CallingThread {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime }
    }
}

struct Parked {
    thread: Thread,
    // Kept beside the thread's own park token: a nested call parks on the same thread and may
    // swallow the token that was meant for the outer one.
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs `future` to its end on this thread. May be nested: writing a log checkpoint polls an
/// iterator that itself waits for requests.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let parked = Arc::new(Parked {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parked));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        while !parked.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

impl TaskExecutor for CallingThread {
    type Guard<'a> = EnterGuard<'a>;

    fn block_on<T>(&self, task: T) -> T::Output
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        let _runtime = self.runtime.enter();
        block_on(task)
    }

    fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runtime.spawn(task);
    }

    fn spawn_blocking<T, R>(&self, task: T) -> BoxFuture<'_, KernelResult<R>>
    where
        T: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let joined = self.runtime.spawn_blocking(task);
        Box::pin(async move {
            joined
                .await
                .map_err(|error| KernelError::JoinFailure(error.to_string()))
        })
    }

    fn enter(&self) -> Self::Guard<'_> {
        self.runtime.enter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::oneshot;

    #[test]
    fn a_wake_up_that_comes_during_a_nested_call_is_not_lost() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (outer_send, outer_receive) = oneshot::channel::<()>();
        let (inner_send, inner_receive) = oneshot::channel::<()>();
        let mut outer_receive = pin!(outer_receive);
        let mut inner = Some((inner_receive, outer_send, inner_send));

        let nested = std::future::poll_fn(|context| {
            let first = outer_receive.as_mut().poll(context);
            if let Some((inner_receive, outer_send, inner_send)) = inner.take() {
                // Both are sent while the inner call is parked on this thread.
                runtime.spawn(async move {
                    outer_send.send(()).unwrap();
                    inner_send.send(()).unwrap();
                });
                block_on(inner_receive).unwrap();
            }
            first
        });

        block_on(nested).unwrap();
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}
