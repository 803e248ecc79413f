//! A namespace without sockets: what a peer's bytes do to it, answered at once.
//!
//! For the fuzz targets, which need every run to end the same way. Never does I/O.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::Instant;

use super::config::EmulatorConfig;
use super::connection::engine::Engine;
use super::error::EmulatorError;
use super::hub::Hub;
use super::server::Namespace;
use super::signal::Signal;

/// See the module.
#[derive(Debug)]
pub struct Offline {
    namespace: Arc<Namespace>,
}

impl Offline {
    /// The namespace that `config` describes; nothing listens.
    ///
    /// # Errors
    /// [`EmulatorError::Config`] for a value out of range.
    pub fn new(config: &EmulatorConfig) -> Result<Self, EmulatorError> {
        config.check()?;
        Ok(Self {
            namespace: Arc::new(Namespace::new(config)),
        })
    }

    /// A hub by name, without regard to case.
    #[must_use]
    pub fn hub(&self, name: &str) -> Option<Hub> {
        self.namespace
            .hub(&name.to_lowercase())
            .map(|hub| Hub::new(Arc::clone(hub)))
    }

    /// A connection on which nothing was said yet. Dropping it is hanging up.
    #[must_use]
    pub fn connect(&self) -> OfflineConnection {
        let engine = Engine::new(Arc::clone(&self.namespace), Arc::new(Signal::default()));
        OfflineConnection {
            engine,
            input: BytesMut::new(),
            now: Instant::now(),
        }
    }
}

/// One client's connection.
#[derive(Debug)]
pub struct OfflineConnection {
    engine: Engine,
    input: BytesMut,
    now: Instant,
}

impl OfflineConnection {
    /// Says `bytes`, which may end in the middle of a frame, and hears everything that the
    /// namespace has to say to a client that reads at once.
    pub fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        self.engine.feed(&mut self.input);
        let mut heard = Vec::new();
        loop {
            let more = self.engine.pump(self.now);
            heard.append(self.engine.out());
            if !more {
                return heard;
            }
        }
    }

    /// Whether the namespace would close the socket now.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.engine.is_done()
    }
}
