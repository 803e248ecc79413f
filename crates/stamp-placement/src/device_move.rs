//! The move of one device from one hub to another, as a state machine.
//!
//! The order, and why: the enrolment points to the new hub first, else DPS sends the device straight
//! back; the device is disabled at the old hub, which can be undone, so that it is rejected at its next
//! connect and registers again; its first telemetry in the new stamp is waited for; only then is it
//! erased at the old hub. Until the erase everything can be taken back.
//!
//! This module decides and does nothing. The caller runs a loop: ask [`DeviceMove::next`] what is
//! due; for an act, first save the state that [`DeviceMove::begin`] returns, then perform the act,
//! then save what [`DeviceMove::on`] makes of its outcome. A process that dies anywhere goes on from
//! what was saved: an act whose outcome is not known is due again. So every act must be one that can
//! be done twice: it reads the record first, writes with the entity tag it has just read, and writes
//! even when the record already looks right. The last rule keeps a request of a dead process, still
//! on its way, from landing after the act that takes it back.

mod act;
mod machine;

pub use act::{Act, Evidence, Obstacle, Outcome};
pub use machine::{DeviceMove, Due, Event, MovePolicy, NotNow, Stage};

#[cfg(test)]
mod tests;
