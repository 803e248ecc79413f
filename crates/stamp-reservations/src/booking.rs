//! The words of this door: who is booked, where, and how a request for it ends.

use std::fmt;

use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Axis, Environment, Load};

/// Who is booked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A tenant in one environment: the stamp is its home there.
    Tenant(TenantId, Environment),
    /// One device.
    Device(DeviceId),
}

impl fmt::Display for Subject {
    /// The key in the database: `tenant:contoso/production`, `device:press-7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(tenant, environment) => {
                write!(f, "tenant:{tenant}/{}", environment.as_str())
            }
            Self::Device(device) => write!(f, "device:{}", device.as_str()),
        }
    }
}

/// A wish to be booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub subject: Subject,
    /// Whose capacity it is; of a tenant's own booking, the same tenant.
    pub tenant: TenantId,
    /// Where.
    pub stamp: StampId,
    /// What it takes of the stamp.
    pub needs: Load,
    /// The most that may be booked on the stamp, on each axis: its hard limits, less what the caller
    /// keeps back.
    pub limits: Load,
}

/// Where somebody is booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// Who, as [`Subject`] is shown.
    pub subject: String,
    /// Whose capacity it is.
    pub tenant: TenantId,
    /// Where.
    pub stamp: StampId,
    /// The stamp it is being moved away from. It takes its capacity there too, until the move ends.
    pub leaving: Option<StampId>,
    /// What it takes of each of the two.
    pub needs: Load,
    /// 1 at first, one more with every change.
    pub version: i64,
    /// When it was changed, in microseconds since 1970, by the caller's clock.
    pub changed_us: i64,
}

/// How a claim ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Booked {
    /// Booked by this call.
    New(Booking),
    /// Booked before, perhaps on another stamp. Nothing was changed.
    Already(Booking),
    /// The stamp has no room. Nothing was changed.
    Full {
        /// The first axis without room.
        axis: Axis,
        /// What is booked there.
        used: u64,
    },
}

/// How a change of a booking ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Changed by this call.
    Done(Booking),
    /// The booking is not as the caller thought: it has another version, or the move is not at the
    /// step that was asked for. Nothing was changed.
    Stale(Booking),
    /// There is no such booking.
    Absent,
    /// The stamp has no room. Nothing was changed.
    Full {
        /// The first axis without room.
        axis: Axis,
        /// What is booked there.
        used: u64,
    },
}
