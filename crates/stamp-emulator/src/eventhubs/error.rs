//! What can go wrong between the emulator and the program that runs it.

use std::net::SocketAddr;

/// Why the emulator could not do what its owner asked.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// A configuration value is out of its range. The text names it.
    #[error("emulator configuration: {0}")]
    Config(String),
    /// The address cannot be listened on, most often because it is taken.
    #[error("cannot listen on {address}")]
    Bind {
        /// The asked address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The hub has no such partition.
    #[error("hub {hub:?} has partitions 0 to {last}, not {partition}", last = partitions - 1)]
    UnknownPartition {
        /// The hub's name.
        hub: String,
        /// The partition that was asked for.
        partition: u32,
        /// How many partitions the hub has.
        partitions: u32,
    },
    /// The encoded message is larger than the service takes.
    #[error("a message of {bytes} bytes is larger than the {bytes_max} that are allowed")]
    MessageTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A certificate cannot be made: a name that is none, or no randomness.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take what was made.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The authority's certificate cannot be written.
    #[error("cannot write the authority's certificate to {}", path.display())]
    CaFile {
        /// The asked file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A webhook cannot be called. The text says why.
    #[error("webhook {url}: {why}")]
    Webhook {
        /// The asked address, without its query: it holds a key.
        url: String,
        /// What happened.
        why: String,
    },
}
