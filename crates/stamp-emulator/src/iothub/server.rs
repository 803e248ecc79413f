//! A running hub and a program's handle on it.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::{IotHubConfig, Permission};
use super::device::Authentication;
use super::hub::HubCore;
use crate::listen::{Addresses, Bound};
use crate::{EmulatorError, ServiceFaults};

/// An IoT Hub on loopback.
///
/// It runs on the tokio runtime it was started on until [`IotHubEmulator::stop`]; dropping it stops
/// it too, without waiting. Devices live in memory and are gone with it.
#[derive(Debug)]
pub struct IotHubEmulator {
    hub: IotHub,
    stop: DropGuard,
    servers: JoinSet<()>,
}

/// A handle on a running hub. Clones mean the same hub.
#[derive(Debug, Clone)]
pub struct IotHub {
    pub(crate) core: Arc<HubCore>,
    addresses: Addresses,
}

impl IotHubEmulator {
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
    pub async fn start(config: IotHubConfig) -> Result<Self, EmulatorError> {
        config.check()?;
        let (listen, authority) = (config.listen.clone(), Arc::clone(&config.authority));
        let core = Arc::new(HubCore::new(config)?);
        let bound = Bound::bind(&listen)?;
        let addresses = bound.addresses;
        let stop = CancellationToken::new();
        let servers = bound.serve(&listen, &authority, &core, &stop)?;
        tracing::info!(host = %core.host, ?addresses, "IoT Hub emulator listens");
        Ok(Self {
            hub: IotHub { core, addresses },
            stop: stop.drop_guard(),
            servers,
        })
    }

    /// A handle on it.
    #[must_use]
    pub fn hub(&self) -> IotHub {
        self.hub.clone()
    }

    /// Ends every connection and waits until all are gone.
    pub async fn stop(mut self) {
        drop(self.stop);
        while self.servers.join_next().await.is_some() {}
    }
}

impl IotHub {
    /// The name that clients call it by, without a port.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.core.host
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What a service program needs: host name, with its port unless that is 443, and the key of
    /// the first policy that may write the registry.
    #[must_use]
    pub fn connection_string(&self) -> String {
        let policies = &self.core.config.policies;
        let owner = policies
            .iter()
            .find(|policy| policy.permissions.contains(&Permission::RegistryWrite))
            .or(policies.first());
        let (name, key) = owner.map_or(("", ""), |policy| (&policy.name, &policy.key));
        let port = self.addresses.https.map(|address| address.port());
        let port = port.filter(|port| *port != 443);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!(
            "HostName={}{port};SharedAccessKeyName={name};SharedAccessKey={key}",
            self.core.host
        )
    }

    /// What a device needs, when it is registered with symmetric keys.
    #[must_use]
    pub fn device_connection_string(&self, id: &str) -> Option<String> {
        let device = self.core.get(id).ok()?;
        let Authentication::Sas { primary, .. } = device.authentication else {
            return None;
        };
        let host = &self.core.host;
        Some(format!(
            "HostName={host};DeviceId={id};SharedAccessKey={primary}"
        ))
    }

    /// A device's identity as the registry answers it.
    #[must_use]
    pub fn device(&self, id: &str) -> Option<Value> {
        let device = self.core.get(id).ok()?;
        Some(device.json(&self.core.host))
    }

    /// A device's twin as the service API answers it.
    #[must_use]
    pub fn twin(&self, id: &str) -> Option<Value> {
        Some(self.core.get(id).ok()?.twin_json())
    }

    /// Ends every device's connection, as a restart of a gateway would.
    pub fn drop_connections(&self) {
        self.core.disconnect_all();
    }

    /// Events that no endpoint took: no route, and no built-in endpoint.
    #[must_use]
    pub fn unrouted(&self) -> u64 {
        self.core.unrouted()
    }

    /// The hub's fault hooks, and what was seen on the wire.
    #[must_use]
    pub fn faults(&self) -> &ServiceFaults {
        &self.core.faults
    }
}
