//! A certificate authority of our own, made anew at each start, and the servers' certificates.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::EmulatorError;

/// The authority that clients have to trust to reach emulators over TLS. Its key never leaves this
/// process.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// [`EmulatorError::Certificate`] when the system gives no randomness.
    pub fn generate() -> Result<Self, EmulatorError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "stamp-emulator test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// The authority's certificate as PEM text, which is what clients take.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes [`Authority::pem`] to a file for clients that want a path.
    ///
    /// # Errors
    /// [`EmulatorError::CaFile`] when it cannot be written.
    pub fn write_pem(&self, path: &Path) -> Result<(), EmulatorError> {
        std::fs::write(path, self.pem()).map_err(|source| EmulatorError::CaFile {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes a certificate for a server of somebody else, and its key, as PEM files.
    ///
    /// # Errors
    /// [`EmulatorError::Certificate`] for names that are none, [`EmulatorError::CaFile`] with the file
    /// that cannot be written.
    pub fn issue(
        &self,
        names: &[&str],
        certificate: &Path,
        key: &Path,
    ) -> Result<(), EmulatorError> {
        let pair = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&pair, &self.issuer)?;
        for (path, text) in [(certificate, leaf.pem()), (key, pair.serialize_pem())] {
            std::fs::write(path, text).map_err(|source| EmulatorError::CaFile {
                path: path.to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// A server's side of TLS for these host names and addresses.
    pub(crate) fn acceptor(&self, names: &[String]) -> Result<TlsAcceptor, EmulatorError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A client's side of TLS that trusts this authority only.
    pub(crate) fn connector(&self) -> Result<TlsConnector, EmulatorError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
