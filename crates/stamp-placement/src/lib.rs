//! The fleet: its catalogue, which stamp a tenant or device gets, and the move of a device.
//!
//! [`catalogue`] turns the text of `fleet.toml` into a [`Fleet`], or into every problem it has with
//! file, line and key. [`Planner`] answers which stamp a tenant or a device gets, with its reasons.
//! [`growth`] says which stamp is full when. [`rollout`] says which stamps may change their version.
//! [`device_move`] is the order of acts that takes a device from one hub to another.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no randomness, no async. Usage,
//! health and times come from the caller. The same question gets the same answer on every machine,
//! in whatever order stamps and requests are listed.

pub mod catalogue;
pub mod device_move;
mod directory;
mod fleet;
pub mod growth;
mod load;
pub mod placement;
mod rendezvous;
pub mod rollout;
pub mod sku;

pub use directory::Directory;
pub use fleet::{
    Environment, EventHub, Fleet, IotHub, Kind, Placing, Quota, Ring, Service, Stamp, StampState,
    Tenant, TenantState,
};
pub use load::{Axis, Capacity, Limit, Load};
pub use placement::{Answer, Planner, Request, Usage};
