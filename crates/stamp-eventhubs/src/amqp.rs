//! Event Hubs over AMQP 1.0.
//!
//! A partition is read by our own [`receiver`], on a connection of its own: partitions spread over
//! the cores, and one that is lost takes no other with it. Questions about the hub share one more,
//! on the engine `fe2o3-amqp`. The price is a socket, a TLS session and 128 to 640 KiB of buffers a
//! partition, out of the 5,000 connections that a standard namespace allows.

use std::fmt;
use std::sync::Arc;

use stamp_model::PartitionId;
use tokio::sync::Mutex;

use crate::config::{ConnectionString, Credential, Endpoint, bad};
use crate::error::Asked;
use crate::{AmqpConfig, EventHub, HubError, HubProperties, PartitionProperties, StartPosition};

mod authorize;
mod connection;
mod dial;
mod engine_source;
pub(crate) mod event;
mod fault;
mod management;
mod message;
mod position;
mod quick;
pub(crate) mod receiver;
mod request;
pub(crate) mod tap;
mod text;
mod token;
mod wire;

use connection::ConnectionSettings;
use dial::Dialer;
use management::Management;

pub use engine_source::EngineSource;
pub use event::UNDECODABLE_PROPERTY;
pub use receiver::AmqpSource;

/// A hub of Event Hubs, or of an emulator of it. Clones share the connection for questions.
#[derive(Clone)]
pub struct AmqpHub {
    hub: Arc<Hub>,
    management: Arc<Mutex<Option<Management>>>,
}

/// What every connection to the hub needs.
pub(crate) struct Hub {
    pub(crate) connection: ConnectionSettings,
    /// Host of the namespace in lower case.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) consumer_group: String,
    pub(crate) credential: Credential,
    pub(crate) credit: u32,
}

impl AmqpHub {
    /// Makes the hub that `config` describes. Reads the connection string and the certificates
    /// where it says they are (blocking, a few milliseconds) and does not connect.
    ///
    /// # Errors
    /// [`HubError::BadConfig`] names the key that cannot be used and says what to write.
    pub fn new(config: &AmqpConfig) -> Result<Self, HubError> {
        config.validate()?;
        Self::build(config, config.read_connection_string()?)
    }

    /// As [`AmqpHub::new`], with a connection string that the caller has, such as that of an
    /// emulator in the same process.
    ///
    /// # Errors
    /// As [`AmqpHub::new`]; `connection-string` is the key of a bad connection string.
    pub fn with_connection_string(
        config: &AmqpConfig,
        connection_string: &str,
    ) -> Result<Self, HubError> {
        config.validate()?;
        let parsed = ConnectionString::parse("connection-string", connection_string)?;
        Self::build(config, Some(parsed))
    }

    fn build(config: &AmqpConfig, parsed: Option<ConnectionString>) -> Result<Self, HubError> {
        let given = match &config.endpoint {
            Some(text) => Some(Endpoint::parse("endpoint", text)?),
            None => None,
        };
        let (namespace, credential, entity) = match parsed {
            Some(parsed) => (
                Some((parsed.endpoint, parsed.emulator)),
                parsed.credential,
                parsed.hub,
            ),
            None => (None, Credential::Absent, None),
        };
        let (endpoint, host) = match (given, namespace) {
            (Some(given), Some((namespace, emulator))) => {
                if !given.tls && !emulator {
                    return bad(
                        "endpoint",
                        "amqp:// would send the credential in the clear; write amqps://",
                    );
                }
                (given, namespace.host)
            }
            (Some(given), None) => (given.clone(), given.host),
            (None, Some((namespace, _))) => (namespace.clone(), namespace.host),
            (None, None) => {
                return bad(
                    "connection-string-env",
                    "give this, connection-string-file or endpoint: nothing says where the hub is",
                );
            }
        };
        let name = match (&config.hub, entity) {
            (Some(name), Some(entity)) if *name != entity => {
                return bad(
                    "hub",
                    "the connection string is for another hub (EntityPath)",
                );
            }
            (Some(name), _) => name.clone(),
            (None, Some(entity)) => entity,
            (None, None) => {
                return bad("hub", "give it: the connection string has no EntityPath");
            }
        };
        Ok(Self {
            hub: Arc::new(Hub {
                connection: ConnectionSettings {
                    dialer: Dialer::new(endpoint, &config.tls, config.connect_timeout)?,
                    hostname: host.clone(),
                    connect_timeout: config.connect_timeout,
                    idle_timeout: config.idle_timeout,
                },
                namespace: host,
                name,
                consumer_group: config.consumer_group.clone(),
                credential,
                credit: config.credit,
            }),
            management: Arc::default(),
        })
    }

    /// Takes the open connection for questions, or opens one.
    async fn management(&self, kept: &mut Option<Management>) -> Result<Management, HubError> {
        match kept.take().filter(|management| !management.is_closed()) {
            Some(management) => Ok(management),
            None => Management::open(&self.hub).await,
        }
    }
}

impl EventHub for AmqpHub {
    type Source = AmqpSource;

    async fn properties(&self) -> Result<HubProperties, HubError> {
        let mut kept = self.management.lock().await;
        // It goes back only after an answer: one that failed, or whose caller went away in the
        // middle of a question, is not used again.
        let mut management = self.management(&mut kept).await?;
        let properties = management.hub(&self.hub).await?;
        *kept = Some(management);
        Ok(properties)
    }

    async fn partition_properties(
        &self,
        partition: PartitionId,
    ) -> Result<PartitionProperties, HubError> {
        let mut kept = self.management.lock().await;
        let mut management = self.management(&mut kept).await?;
        let properties = management.partition(&self.hub, partition).await?;
        *kept = Some(management);
        Ok(properties)
    }

    async fn open(
        &self,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> Result<AmqpSource, HubError> {
        AmqpSource::open(&self.hub, partition, start, owner_level).await
    }
}

/// The same hub, whose partitions are received by the engine `fe2o3-amqp`: another reading of the
/// protocol, which the tests hold against [`AmqpHub`]'s own. No program uses it.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct EngineHub(pub AmqpHub);

impl EventHub for EngineHub {
    type Source = EngineSource;

    async fn properties(&self) -> Result<HubProperties, HubError> {
        self.0.properties().await
    }

    async fn partition_properties(
        &self,
        partition: PartitionId,
    ) -> Result<PartitionProperties, HubError> {
        self.0.partition_properties(partition).await
    }

    async fn open(
        &self,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> Result<EngineSource, HubError> {
        EngineSource::open(&self.0.hub, partition, start, owner_level).await
    }
}

impl Hub {
    /// Address of a partition for reading.
    pub(crate) fn partition_path(&self, partition: PartitionId) -> String {
        let Self {
            name,
            consumer_group,
            ..
        } = self;
        format!("{name}/ConsumerGroups/{consumer_group}/Partitions/{partition}")
    }

    /// What a token for `path` is made out to.
    pub(crate) fn audience(&self, path: &str) -> String {
        format!("sb://{}/{path}", self.namespace)
    }
}

/// What is asked for, before it was granted.
pub(crate) fn asked(entity: String, partition: Option<PartitionId>) -> Asked {
    Asked {
        entity,
        partition,
        granted: false,
    }
}

impl fmt::Debug for AmqpHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpHub")
            .field("peer", &self.hub.connection.dialer.peer())
            .field("hub", &self.hub.name)
            .field("consumer_group", &self.hub.consumer_group)
            .finish_non_exhaustive()
    }
}
