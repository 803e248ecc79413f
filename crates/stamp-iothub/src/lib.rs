//! The door to the service APIs of IoT Hub and of its Device Provisioning Service (DPS).
//!
//! [`DeviceRegistry`] is a hub as a service program sees it: device identities, twins, queries,
//! statistics. [`ProvisioningService`] is DPS: enrolments, enrolment groups, registration records.
//! Each has a client for the real service, [`IotHubClient`] and [`DpsClient`], over HTTPS, and one
//! in [`memory`]; one conformance suite runs on all of them.
//!
//! Every `async fn` is **one attempt** of one request that says what became of it, by
//! [`FailureKind`](stamp_resilience::FailureKind). Nothing here repeats, sleeps, or has a time-out
//! of its own: the caller's retry layer bounds each attempt by dropping it. A dropped attempt may
//! have been done. Answers are bounded; keys and tokens are never printed.

mod config;
mod device;
mod dps;
mod enrollment;
mod error;
mod failure;
mod http;
mod hub;
pub mod memory;
mod page;
mod path;
mod service;
mod tls;
mod token;
mod twin;

pub use config::ServiceConfig;
pub use device::{Device, DeviceStatus, ImportEntry, ImportMode, Statistics};
pub use dps::{DpsClient, ProvisioningService};
pub use enrollment::{
    Attestation, BulkMode, Enrollment, EnrollmentKind, Registration, derive_device_key,
};
pub use error::{Refusal, ServiceError};
pub use hub::{DeviceRegistry, IotHubClient};
pub use page::{BulkAnswer, BulkProblem, Page, PageRequest};
pub use twin::Twin;
