//! The name of an operation, and whether doing it twice is the same as doing it once.

/// What is done against a peer: a name for logs and metrics, and whether doing it twice is the
/// same as doing it once.
///
/// A plain text is an operation that is **not** idempotent: after a lost answer or a timeout it is
/// given up as unknown. [`idempotent`] marks one that is repeated then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    name: &'static str,
    idempotent: bool,
}

/// An operation that may be repeated although an earlier attempt may have been done: a read, or a
/// write that its key makes the same each time.
#[must_use]
pub const fn idempotent(name: &'static str) -> Operation {
    Operation {
        name,
        idempotent: true,
    }
}

impl Operation {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.idempotent
    }
}

impl From<&'static str> for Operation {
    fn from(name: &'static str) -> Self {
        Self {
            name,
            idempotent: false,
        }
    }
}
