//! Why somebody gets no answer, by a code that never changes its meaning.

/// Most problems that an answer lists.
pub(crate) const PROBLEMS_MAX: usize = 1_000;

/// A stable code. `docs/moving.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request cannot be read.
    BadRequest,
    /// Neither a key nor a certificate that lets the caller in.
    Unauthorized,
    /// There is nothing at this path.
    NotFound,
    /// There is no move of this id.
    NoSuchMove,
    /// The move has no such device.
    NoSuchDevice,
    /// There is something at this path, with another method.
    MethodNotAllowed,
    /// There is another move of this id.
    IdTaken,
    /// A device is in another move that has not ended.
    DeviceInMove,
    /// As many moves as may be under way at once are.
    MovesAtOnce,
    /// As many moves as may be kept are.
    MovesKept,
    /// The move has ended.
    Ended,
    /// The move has not ended.
    NotEnded,
    /// The move's journal cannot be used.
    Unusable,
    /// The request's body is over the limit.
    TooLarge,
    /// Devices of it may not go where they would.
    Refused,
    /// The catalogue, the services file, the disk or the source hub cannot be used now.
    Unavailable,
    /// The answer took too long. Asking again is safe.
    TooSlow,
}

impl Reason {
    /// Every code.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::NotFound,
        Self::NoSuchMove,
        Self::NoSuchDevice,
        Self::MethodNotAllowed,
        Self::IdTaken,
        Self::DeviceInMove,
        Self::MovesAtOnce,
        Self::MovesKept,
        Self::Ended,
        Self::NotEnded,
        Self::Unusable,
        Self::TooLarge,
        Self::Refused,
        Self::Unavailable,
        Self::TooSlow,
    ];

    /// The code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not-found",
            Self::NoSuchMove => "no-such-move",
            Self::NoSuchDevice => "no-such-device",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::IdTaken => "id-taken",
            Self::DeviceInMove => "device-in-move",
            Self::MovesAtOnce => "moves-at-once",
            Self::MovesKept => "moves-kept",
            Self::Ended => "ended",
            Self::NotEnded => "not-ended",
            Self::Unusable => "unusable",
            Self::TooLarge => "too-large",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::TooSlow => "too-slow",
        }
    }

    /// The HTTP status: 4xx is final until somebody changes something, 5xx passes.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::NoSuchMove => 404,
            Self::MethodNotAllowed => 405,
            Self::IdTaken
            | Self::NoSuchDevice
            | Self::DeviceInMove
            | Self::MovesAtOnce
            | Self::MovesKept
            | Self::Ended
            | Self::NotEnded
            | Self::Unusable
            | Self::Refused => 409,
            Self::TooLarge => 413,
            Self::Unavailable | Self::TooSlow => 503,
        }
    }
}

/// Why somebody gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// For programs.
    pub(crate) reason: Reason,
    /// For people: what and where.
    pub(crate) message: String,
    /// Each reason by itself, where there are several.
    pub(crate) problems: Vec<String>,
}

impl Refused {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            problems: Vec::new(),
        }
    }

    /// With every problem, as many as an answer lists.
    pub(crate) fn for_each(
        reason: Reason,
        message: impl Into<String>,
        problems: impl Iterator<Item = String>,
    ) -> Self {
        Self {
            problems: problems.take(PROBLEMS_MAX).collect(),
            ..Self::new(reason, message)
        }
    }
}

pub(crate) fn bad(message: impl Into<String>) -> Refused {
    Refused::new(Reason::BadRequest, message)
}
