//! Which certificates are trusted: the system's, and those of a file beside them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;

use crate::error::{ServiceError, bad};

const KEY: &str = "extra-ca-file";

/// A client's side of TLS.
pub(crate) fn connector(extra_ca_file: Option<&Path>) -> Result<TlsConnector, ServiceError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra_ca_file {
        add(&mut roots, path)?;
    }
    if roots.is_empty() {
        let why = native.errors.first().map(ToString::to_string);
        let why = why.as_deref().unwrap_or("none were found");
        return bad(
            KEY,
            format!("this system has no trusted certificates ({why}); give a file with some"),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.or_else(|error| bad(KEY, error.to_string()))?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), ServiceError> {
    let refuse = |problem: String| ServiceError::BadConfig {
        key: KEY,
        problem: format!("{}: {problem}", path.display()),
    };
    let pem = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| refuse(error.to_string()))?;
    }
    match roots.len() == before {
        true => Err(refuse("holds no certificate in PEM form".to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no-ca.pem");
        fs::write(&file, "nothing").unwrap();
        let error = add(&mut RootCertStore::empty(), &file).unwrap_err();
        assert!(error.to_string().contains("no-ca.pem: holds no"), "{error}");
    }
}
