//! The server's certificate, and whose certificates callers may show.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{Error, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

use crate::HttpError;

/// Most certificates of one file.
const CERTIFICATES_MAX: usize = 100;

/// PEM files, as a configuration names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsFiles {
    /// The server's certificate and the ones between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority of callers' certificates. Every certificate that it signed is let in, so it
    /// must be one for this purpose only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// What a server needs for TLS. Clones share it, so that certificates can be replaced while it runs.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`HttpError::Pem`] and [`HttpError::Certificate`] with the file.
    pub fn load(files: TlsFiles) -> Result<Self, HttpError> {
        let config = read(&files)?;
        Ok(Self {
            files: Arc::new(files),
            config: Arc::new(RwLock::new(config)),
        })
    }

    /// Reads the files again; connections made from now on use what they hold.
    ///
    /// # Errors
    /// As [`Tls::load`], and what was there before stays in use.
    pub fn reload(&self) -> Result<(), HttpError> {
        let config = read(&self.files)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, HttpError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| pem(&files.key, "private key", error))?;
    let unusable = |path: &Path, source| HttpError::Certificate {
        path: path.to_owned(),
        source,
    };
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.certificate, error.into()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unusable(path, error.into()))?;
            }
            // Who shows none is let through here; the handler decides what else lets a caller in.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(path, error.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&files.certificate, error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let wrong = |error| pem(path, "certificate", error);
    let found = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let found: Result<Vec<_>, Error> = found.take(CERTIFICATES_MAX).collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() {
        return Err(HttpError::Pem {
            path: path.to_owned(),
            what: "certificate",
            source: None,
        });
    }
    Ok(found)
}

fn pem(path: &Path, what: &'static str, error: Error) -> HttpError {
    HttpError::Pem {
        path: path.to_owned(),
        what,
        source: Some(error),
    }
}
