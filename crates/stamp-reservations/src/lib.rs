//! Which tenant and which device is on which stamp, kept in a database.
//!
//! A booking says where its subject is and what it takes of the stamp's capacity. Booking checks the
//! stamp's limits and counts in one transaction, so provisioners that run side by side never book the
//! same capacity twice, and a booking that was answered survives a kill.
//!
//! SQLite is the embedded default, for one provisioner on one disk; PostgreSQL serves several.
//! Every call is one attempt on one connection. Nothing here decides where a subject should go, waits
//! and tries again, or forgets a booking by itself.

mod backend;
mod booking;
mod config;
mod error;
mod sql;

pub use backend::Reservations;
pub use booking::{Booked, Booking, Claim, Moved, Subject};
pub use config::ReservationsConfig;
pub use error::ReservationsError;
