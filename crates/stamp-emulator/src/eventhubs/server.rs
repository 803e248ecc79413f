//! The emulated namespace: listens, and gives each connection its own task.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::{EmulatorConfig, Limits};
use super::connection;
use super::counters::{CounterCells, Counters};
use super::error::EmulatorError;
use super::hub::{Hub, HubShared};
use crate::net::{self, listen};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) hubs: Vec<Arc<HubShared>>,
    pub(crate) limits: Limits,
    pub(crate) container_id: String,
    pub(crate) counters: CounterCells,
}

impl Namespace {
    pub(crate) fn new(config: &EmulatorConfig) -> Self {
        let message_bytes_max = config.limits.message_bytes_max;
        let hub = |hub: &super::config::HubConfig| {
            HubShared::new(hub.clone(), Arc::clone(&config.clock), message_bytes_max)
        };
        Self {
            hubs: config.hubs.iter().map(hub).collect(),
            limits: config.limits,
            container_id: "stamp-emulator".to_owned(),
            counters: CounterCells::default(),
        }
    }

    /// A hub by its name in lower case.
    pub(crate) fn hub(&self, key: &str) -> Option<&Arc<HubShared>> {
        self.hubs.iter().find(|hub| hub.key() == key)
    }
}

/// An Event Hubs namespace on loopback.
///
/// It runs on the tokio runtime it was started on until [`EventHubsEmulator::stop`]; dropping it
/// stops it too, without waiting. Events live in memory and are gone with it.
#[derive(Debug)]
pub struct EventHubsEmulator {
    address: SocketAddr,
    namespace: Arc<Namespace>,
    stop: DropGuard,
    accepting: tokio::task::JoinHandle<()>,
}

impl EventHubsEmulator {
    /// Listens and serves.
    ///
    /// # Errors
    /// [`EmulatorError::Config`] for a value out of range, [`EmulatorError::Bind`] when the address
    /// cannot be listened on.
    #[expect(
        clippy::unused_async,
        reason = "needs a runtime, and starting may come to wait"
    )]
    pub async fn start(config: EmulatorConfig) -> Result<Self, EmulatorError> {
        config.check()?;
        let bind = |source| EmulatorError::Bind {
            address: config.listen,
            source,
        };
        let listener = listen(config.listen).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let namespace = Arc::new(Namespace::new(&config));
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&namespace), stop.clone()));
        tracing::info!(%address, hubs = namespace.hubs.len(), "event hubs emulator listens");
        Ok(Self {
            address,
            namespace,
            stop: stop.drop_guard(),
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client needs to reach a hub. The key is as good as any other.
    #[must_use]
    pub fn connection_string(&self, hub: &str) -> String {
        format!(
            "Endpoint=sb://{};SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;EntityPath={hub}",
            self.address
        )
    }

    /// A hub by name, without regard to case.
    #[must_use]
    pub fn hub(&self, name: &str) -> Option<Hub> {
        self.namespace
            .hub(&name.to_lowercase())
            .map(|hub| Hub::new(Arc::clone(hub)))
    }

    /// What was seen on the wire in the whole namespace. Only connections, attaches, tokens and
    /// management reads are counted here; see [`Hub::counters`] for the rest.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.namespace.counters.read()
    }

    /// Tells every client that the connection ends, and waits until all are gone, at most a few
    /// seconds.
    pub async fn stop(self) {
        drop(self.stop);
        // The accept task ends by itself; it cannot fail but by a panic, which it reported.
        let _ = self.accepting.await;
    }
}

/// Runs an emulator until `shutdown`.
///
/// # Errors
/// As [`EventHubsEmulator::start`].
pub async fn serve(
    config: EmulatorConfig,
    shutdown: CancellationToken,
) -> Result<(), EmulatorError> {
    let emulator = EventHubsEmulator::start(config).await?;
    shutdown.cancelled().await;
    emulator.stop().await;
    Ok(())
}

async fn accept(listener: TcpListener, namespace: Arc<Namespace>, stop: CancellationToken) {
    let max = namespace.limits.connections_max;
    net::accept(listener, "AMQP", max, stop.clone(), |stream| {
        namespace.counters.connections_opened.add(1);
        connection::run(stream, Arc::clone(&namespace), stop.clone())
    })
    .await;
}
