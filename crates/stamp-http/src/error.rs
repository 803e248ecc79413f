//! Why the server cannot start, or cannot take new certificates.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server cannot start, or cannot take new certificates.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be listened on: taken, not of this machine, or not allowed.
    #[error("listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no certificate or key that can be read.
    #[error("{path} holds no {what} that can be read")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// What is wrong with it; `None` when there is simply none.
        #[source]
        source: Option<rustls_pki_types::pem::Error>,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("{path} cannot be used for TLS")]
    Certificate {
        /// The certificate's file, or the client authority's.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
