//! Why somebody gets no answer, by a code that never changes its meaning.

/// A stable code. `docs/provisioning.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request cannot be read.
    BadRequest,
    /// The request's body is over the limit.
    TooLarge,
    /// Neither a key nor a certificate that lets the caller in.
    Unauthorized,
    /// There is nothing at this path.
    NotFound,
    /// There is something at this path, with another method.
    MethodNotAllowed,
    /// No tenant of the catalogue has this device, or the tenant is not in it.
    UnknownTenant,
    /// The catalogue and the enrolment name different tenants.
    TenantMismatch,
    /// Nothing of a tenant in this state is placed.
    TenantState,
    /// The tenant's data may be in none of the places that are left.
    Residency,
    /// None of the enrolment's hubs is of a stamp in the catalogue.
    NoLinkedStamp,
    /// The tenant's stamp is not among the enrolment's hubs.
    HomeNotLinked,
    /// The catalogue names no stamp of this environment for the tenant.
    NoneNamed,
    /// No stamp is of the right kind, ring, environment and state.
    NoStampFits,
    /// A stamp would fit and has no room.
    NoCapacity,
    /// The device is in the middle of another move.
    MoveOpen,
    /// Nobody of that name was placed.
    NotPlaced,
    /// The database is away, and nothing is known that could be answered.
    DatabaseAway,
    /// The database is away, and what may be given away without it is used up.
    ReserveUsedUp,
    /// The answer took too long. Asking again is safe.
    TooSlow,
}

impl Reason {
    /// Every code.
    pub const ALL: [Self; 19] = [
        Self::BadRequest,
        Self::TooLarge,
        Self::Unauthorized,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UnknownTenant,
        Self::TenantMismatch,
        Self::TenantState,
        Self::Residency,
        Self::NoLinkedStamp,
        Self::HomeNotLinked,
        Self::NoneNamed,
        Self::NoStampFits,
        Self::NoCapacity,
        Self::MoveOpen,
        Self::NotPlaced,
        Self::DatabaseAway,
        Self::ReserveUsedUp,
        Self::TooSlow,
    ];

    /// The code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::TooLarge => "too-large",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::UnknownTenant => "unknown-tenant",
            Self::TenantMismatch => "tenant-mismatch",
            Self::TenantState => "tenant-state",
            Self::Residency => "residency",
            Self::NoLinkedStamp => "no-linked-stamp",
            Self::HomeNotLinked => "home-not-linked",
            Self::NoneNamed => "none-named",
            Self::NoStampFits => "no-stamp-fits",
            Self::NoCapacity => "no-capacity",
            Self::MoveOpen => "move-open",
            Self::NotPlaced => "not-placed",
            Self::DatabaseAway => "database-away",
            Self::ReserveUsedUp => "reserve-used-up",
            Self::TooSlow => "too-slow",
        }
    }

    /// The HTTP status: 4xx is final until somebody changes something, 5xx passes.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::TooLarge => 413,
            Self::Unauthorized => 401,
            Self::NotFound | Self::NotPlaced => 404,
            Self::MethodNotAllowed => 405,
            Self::UnknownTenant | Self::TenantMismatch | Self::TenantState | Self::Residency => 403,
            Self::NoLinkedStamp
            | Self::HomeNotLinked
            | Self::NoneNamed
            | Self::NoStampFits
            | Self::NoCapacity
            | Self::MoveOpen => 409,
            Self::DatabaseAway | Self::ReserveUsedUp | Self::TooSlow => 503,
        }
    }
}

/// Why somebody gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.code())]
pub struct Refused {
    /// For programs.
    pub reason: Reason,
    /// For people: what and where.
    pub message: String,
}

impl Refused {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}
