//! A running service and a program's handle on it.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::DpsConfig;
use super::enrollment::Kind;
use super::service::DpsCore;
use crate::listen::{Addresses, Bound};
use crate::{EmulatorError, ServiceFaults};

/// A Device Provisioning Service on loopback.
///
/// It runs on the tokio runtime it was started on until [`DpsEmulator::stop`]; dropping it stops it
/// too, without waiting. Enrolments and registrations live in memory and are gone with it.
#[derive(Debug)]
pub struct DpsEmulator {
    core: Arc<DpsCore>,
    addresses: Addresses,
    stop: DropGuard,
    servers: JoinSet<()>,
}

impl DpsEmulator {
    /// Listens and serves.
    ///
    /// # Errors
    /// [`EmulatorError::Config`] for a value out of range, [`EmulatorError::Bind`] when a port
    /// cannot be listened on, [`EmulatorError::Certificate`] and [`EmulatorError::Tls`] when there
    /// is no certificate for the host's name.
    #[expect(
        clippy::unused_async,
        reason = "needs a runtime, and starting may come to wait"
    )]
    pub async fn start(config: DpsConfig) -> Result<Self, EmulatorError> {
        config.check()?;
        let (listen, authority) = (config.listen.clone(), Arc::clone(&config.authority));
        let core = Arc::new(DpsCore::new(config)?);
        let bound = Bound::bind(&listen)?;
        let addresses = bound.addresses;
        let stop = CancellationToken::new();
        let servers = bound.serve(&listen, &authority, &core, &stop)?;
        tracing::info!(host = %core.host, ?addresses, "DPS emulator listens");
        Ok(Self {
            core,
            addresses,
            stop: stop.drop_guard(),
            servers,
        })
    }

    /// The name that clients call it by, without a port.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.core.host
    }

    /// What devices call it by.
    #[must_use]
    pub fn id_scope(&self) -> &str {
        &self.core.config.id_scope
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What a service program needs: host name, with its port unless that is 443, and the first
    /// policy's key.
    #[must_use]
    pub fn connection_string(&self) -> String {
        let policy = self.core.config.policies.first();
        let (name, key) = policy.map_or(("", ""), |policy| (&policy.name, &policy.key));
        let port = self.addresses.https.map(|address| address.port());
        let port = port.filter(|port| *port != 443);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!(
            "HostName={}{port};SharedAccessKeyName={name};SharedAccessKey={key}",
            self.core.host
        )
    }

    /// Writes an individual enrolment as `PUT /enrollments/{id}` does; gives the record with keys.
    ///
    /// # Errors
    /// [`EmulatorError::Config`] with the service's own text.
    pub fn put_enrollment(&self, id: &str, record: &Value) -> Result<Value, EmulatorError> {
        self.put(Kind::Individual, id, record)
    }

    /// Writes an enrolment group as `PUT /enrollmentGroups/{id}` does; gives the record with keys.
    ///
    /// # Errors
    /// [`EmulatorError::Config`] with the service's own text.
    pub fn put_enrollment_group(&self, id: &str, record: &Value) -> Result<Value, EmulatorError> {
        self.put(Kind::Group, id, record)
    }

    fn put(&self, kind: Kind, id: &str, record: &Value) -> Result<Value, EmulatorError> {
        let put = self.core.put(kind, id, record, None, false);
        put.map_err(|error| EmulatorError::Config(format!("{id}: {} {}", error.code, error.text)))
    }

    /// What became of a device, as the service API answers it.
    #[must_use]
    pub fn registration(&self, id: &str) -> Option<Value> {
        Some(self.core.registration(id).ok()?.json())
    }

    /// The service's fault hooks, and what was seen on the wire.
    #[must_use]
    pub fn faults(&self) -> &ServiceFaults {
        &self.core.faults
    }

    /// Ends every connection and waits until all are gone.
    pub async fn stop(mut self) {
        drop(self.stop);
        while self.servers.join_next().await.is_some() {}
    }
}
