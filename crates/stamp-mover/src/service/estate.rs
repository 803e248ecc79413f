//! What a service of moves asks the program around it.

use std::collections::BTreeMap;

use stamp_iothub::{DeviceRegistry, ProvisioningService};
use stamp_model::{StampId, TenantId};
use stamp_placement::{Environment, Fleet, Usage};

use crate::doors::{Open, PeerPolicy};
use crate::plan::Plan;
use crate::sighting::Sightings;

/// The fleet as it is now.
#[derive(Debug)]
pub struct Survey {
    /// The catalogue.
    pub fleet: Fleet,
    /// What is used of each stamp.
    pub usage: Usage,
    /// Where tenants are.
    pub homes: BTreeMap<(TenantId, Environment), StampId>,
}

/// Why something of the estate cannot be had; a text for a person, on one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EstateError(pub String);

/// The clients that an estate opens.
pub type OpenOf<E> = Open<<E as Estate>::Hub, <E as Estate>::Dps, <E as Estate>::Tables>;

/// A fleet with its services. Every function reads its files anew, asks no service, and may block.
pub trait Estate: Send + Sync + 'static {
    /// A hub's registry.
    type Hub: DeviceRegistry;
    /// DPS.
    type Dps: ProvisioningService;
    /// The stamps' tables.
    type Tables: Sightings;

    /// The fleet as it is now.
    ///
    /// # Errors
    /// [`EstateError`] when a file cannot be used.
    fn survey(&self) -> Result<Survey, EstateError>;

    /// A client of a stamp's hub.
    ///
    /// # Errors
    /// [`EstateError`] when how to reach it is not given.
    fn hub(&self, stamp: &StampId) -> Result<Self::Hub, EstateError>;

    /// The clients of a move's services. Inside a runtime only.
    ///
    /// # Errors
    /// [`EstateError`] when how to reach one is not given.
    fn open(&self, plan: &Plan) -> Result<OpenOf<Self>, EstateError>
    where
        Self: Sized;

    /// How services are called. The share of the limits is for all moves together.
    fn policy(&self) -> PeerPolicy;
}
