//! Catches an operation that is run inside an operation: two layers would multiply their attempts.
//!
//! The mark is local to the task. Work that an attempt hands to another task with `spawn` is not
//! seen.

use std::sync::Arc;

tokio::task_local! {
    static RUNNING: Mark;
}

/// The operation whose attempt is running in this task.
#[derive(Clone)]
pub(crate) struct Mark {
    pub(crate) peer: Arc<str>,
    pub(crate) operation: &'static str,
}

/// What happens to an operation inside an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// A mistake of the programmer, found in a test.
    Panics,
    /// The service goes on: the inner operation is counted and gets a single attempt.
    Counted,
}

impl Nesting {
    /// Panics wherever debug assertions are on, thus in the tests of every crate of the workspace.
    pub(crate) const HERE: Self = if cfg!(debug_assertions) {
        Self::Panics
    } else {
        Self::Counted
    };
}

/// The outer operation, if there is one.
///
/// # Panics
/// When there is one and `nesting` says so.
pub(crate) fn outer(nesting: Nesting, inner: &Mark) -> Option<Mark> {
    let outer = RUNNING.try_with(Mark::clone).ok()?;
    match nesting {
        Nesting::Counted => Some(outer),
        Nesting::Panics => panic!(
            "{}: {} is run inside an attempt of {}: {}, so their attempts would multiply; \
             make one attempt there and let the outer run repeat",
            inner.peer, inner.operation, outer.peer, outer.operation,
        ),
    }
}

/// Runs one attempt under its mark. Not an `async fn`: that would hold the attempt's state twice.
pub(crate) fn marked<F: Future>(mark: Mark, attempt: F) -> impl Future<Output = F::Output> {
    RUNNING.scope(mark, attempt)
}

#[cfg(test)]
mod tests;
