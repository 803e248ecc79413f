//! The socket to the hub: TCP without delay, TLS on top of it where the endpoint asks for it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::HubError;
use crate::config::{Endpoint, TlsConfig, bad};

/// A connected byte stream, plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Stream for S {}

/// Connects to one endpoint.
#[derive(Clone)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
}

impl Dialer {
    /// Reads the certificates that are trusted, when the endpoint has TLS.
    pub(crate) fn new(
        endpoint: Endpoint,
        tls: &TlsConfig,
        timeout: Duration,
    ) -> Result<Self, HubError> {
        let tls = if endpoint.tls {
            let Ok(name) = ServerName::try_from(endpoint.host.clone()) else {
                return bad(
                    "endpoint",
                    "the host is not a name that a certificate can have",
                );
            };
            Some((connector(tls)?, name))
        } else {
            None
        };
        Ok(Self {
            endpoint,
            tls,
            timeout,
        })
    }

    /// `host:port`
    pub(crate) fn peer(&self) -> String {
        self.endpoint.peer()
    }

    /// Connects once.
    pub(crate) async fn dial(&self) -> Result<Box<dyn Stream>, HubError> {
        let connected = tokio::time::timeout(self.timeout, self.connect()).await;
        let error = match connected {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        let peer = self.peer();
        if is_certificate_error(&error) {
            Err(HubError::Certificate {
                peer,
                source: error,
            })
        } else {
            Err(HubError::Unreachable {
                peer,
                source: error,
            })
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = connect_tcp(&self.endpoint).await?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            // TLS comes first and AMQP's own TLS header is left out: what Event Hubs expects on
            // its port 5671 (AMQP 1.0 part 5.2.1, alternative establishment).
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await?;
                Ok(Box::new(tls))
            }
        }
    }
}

/// Without `nodelay` a small disposition holds back the credit that follows it until the peer's
/// delayed acknowledgement, 40 ms: a twentieth of the throughput at the usual credit.
async fn connect_tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn connector(tls: &TlsConfig) -> Result<TlsConnector, HubError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = &tls.extra_ca_file {
        add_extra(&mut roots, path)?;
    }
    if roots.is_empty() {
        let why = native.errors.first().map(ToString::to_string);
        return bad(
            "tls.extra-ca-file",
            format!(
                "this system has no trusted certificates of its own ({}); give a file with some",
                why.as_deref().unwrap_or("none were found")
            ),
        );
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| HubError::BadConfig {
                key: "tls",
                problem: error.to_string(),
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_extra(roots: &mut RootCertStore, path: &Path) -> Result<(), HubError> {
    let refuse = |problem: String| HubError::BadConfig {
        key: "tls.extra-ca-file",
        problem: format!("{}: {problem}", path.display()),
    };
    let pem = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(error.to_string()))?;
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err(refuse("holds no certificate in PEM form".to_owned()))
    }
}

fn is_certificate_error(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_does_not_delay_small_writes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            tls: false,
        };
        assert!(connect_tcp(&endpoint).await.unwrap().nodelay().unwrap());
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_its_name() {
        let file = std::env::temp_dir().join(format!("stamp-no-ca-{}.pem", std::process::id()));
        fs::write(&file, "nothing").unwrap();
        let error = add_extra(&mut RootCertStore::empty(), &file).unwrap_err();
        fs::remove_file(&file).unwrap();
        assert!(error.to_string().contains("stamp-no-ca"), "{error}");
    }
}
