//! The emulated namespace: listens, and gives each connection its own task.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::{EmulatorConfig, Limits};
use super::connection::{self, Transport};
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
    tls_address: Option<SocketAddr>,
    namespace: Arc<Namespace>,
    stop: DropGuard,
    accepting: Vec<JoinHandle<()>>,
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
        let (plain, address) = open(config.listen)?;
        let secured = match &config.tls {
            None => None,
            Some(tls) => {
                let names = ["localhost".to_owned(), tls.listen.ip().to_string()];
                let acceptor = tls.authority.acceptor(&names)?;
                let (listener, address) = open(tls.listen)?;
                Some((listener, acceptor, address))
            }
        };
        let namespace = Arc::new(Namespace::new(&config));
        let stop = CancellationToken::new();
        let serve = |listener, tls| {
            tokio::spawn(accept(listener, tls, Arc::clone(&namespace), stop.clone()))
        };
        let mut accepting = vec![serve(plain, None)];
        let mut tls_address = None;
        if let Some((listener, acceptor, address)) = secured {
            accepting.push(serve(listener, Some(acceptor)));
            tls_address = Some(address);
        }
        tracing::info!(%address, hubs = namespace.hubs.len(), "event hubs emulator listens");
        Ok(Self {
            address,
            tls_address,
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

    /// Where it listens for clients that come with TLS, if it does.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// What a client that trusts the authority needs to reach a hub over TLS, if it can be reached so.
    #[must_use]
    pub fn tls_connection_string(&self, hub: &str) -> Option<String> {
        let port = self.tls_address?.port();
        Some(format!(
            "Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=SAS_KEY_VALUE;EntityPath={hub}"
        ))
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
        for accepting in self.accepting {
            // It ends by itself; it cannot fail but by a panic, which it reported.
            let _ = accepting.await;
        }
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

fn open(address: SocketAddr) -> Result<(TcpListener, SocketAddr), EmulatorError> {
    let bind = |source| EmulatorError::Bind { address, source };
    let listener = listen(address).map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    Ok((listener, address))
}

/// Serves one port. The limit of connections is each port's own.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    namespace: Arc<Namespace>,
    stop: CancellationToken,
) {
    let max = namespace.limits.connections_max;
    net::accept(listener, "AMQP", max, stop.clone(), |stream| {
        let (tls, namespace, stop) = (tls.clone(), Arc::clone(&namespace), stop.clone());
        async move {
            let secured = tokio::select! {
                () = stop.cancelled() => None,
                secured = net::secured(stream, tls) => secured,
            };
            let transport = match secured {
                Some(Either::Left(stream)) => Transport::from(stream),
                Some(Either::Right(stream)) => Transport::from(stream),
                None => return,
            };
            namespace.counters.connections_opened.add(1);
            connection::run(transport, namespace, stop).await;
        }
    })
    .await;
}
