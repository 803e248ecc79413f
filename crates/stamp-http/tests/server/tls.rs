//! TLS: the server's certificate, callers' certificates, and new ones while it runs.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use stamp_http::{HttpError, TlsFiles};
use tokio_rustls::TlsConnector;

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, as PEM.
fn leaf(issuer: &Issuer, usage: ExtendedKeyUsagePurpose) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A folder with what a server needs.
fn files(folder: &Path, server: &Issuer, clients: Option<&Issuer>) -> TlsFiles {
    let (certificate, key) = leaf(server, ExtendedKeyUsagePurpose::ServerAuth);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        certificate: write("tls.crt", &certificate),
        key: write("tls.key", &key),
        client_ca: clients.map(|clients| write("ca.crt", &clients.pem())),
    }
}

/// Asks; the error when the handshake does not come about or the answer breaks off.
async fn ask(
    served: &Served,
    trusted: &Issuer,
    shown: Option<&(String, String)>,
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = connect(served).await;
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn a_callers_certificate_counts_only_when_the_client_authority_signed_it() {
    let (server, clients, others) = (
        authority("server"),
        authority("clients"),
        authority("others"),
    );
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::load(files(folder.path(), &server, Some(&clients))).unwrap();
    let (served, _, _) = start(LIMITS, Some(tls)).await;

    let without = ask(&served, &server, None).await.unwrap();
    assert!(without.ends_with("GET / None None false 0"), "{without}");
    let good = leaf(&clients, ExtendedKeyUsagePurpose::ClientAuth);
    let with = ask(&served, &server, Some(&good)).await.unwrap();
    assert!(with.ends_with("GET / None None true 0"), "{with}");
    for issuer in [&others, &server] {
        let foreign = leaf(issuer, ExtendedKeyUsagePurpose::ClientAuth);
        ask(&served, &server, Some(&foreign)).await.unwrap_err();
    }
    let not_for_clients = leaf(&clients, ExtendedKeyUsagePurpose::ServerAuth);
    ask(&served, &server, Some(&not_for_clients))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn new_certificates_count_from_the_next_connection_and_bad_ones_never() {
    let (old, new) = (authority("old"), authority("new"));
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::load(files(folder.path(), &old, None)).unwrap();
    let (served, _, _) = start(LIMITS, Some(tls.clone())).await;
    ask(&served, &old, None).await.unwrap();

    files(folder.path(), &new, None);
    tls.reload().unwrap();
    ask(&served, &new, None).await.unwrap();
    ask(&served, &old, None).await.unwrap_err();

    std::fs::write(folder.path().join("tls.key"), "no key").unwrap();
    tls.reload().unwrap_err();
    ask(&served, &new, None).await.unwrap();
}

#[tokio::test]
async fn a_caller_without_tls_gets_no_answer_and_holds_up_nobody() {
    let server = authority("server");
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::load(files(folder.path(), &server, None)).unwrap();
    let (served, _, _) = start(LIMITS, Some(tls)).await;
    for _ in 0..5 {
        let plain = exchange(
            &mut connect(&served).await,
            "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
        )
        .await;
        assert!(!plain.contains("200"), "{plain}");
    }
    ask(&served, &server, None).await.unwrap();
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let server = authority("server");
    let folder = tempfile::tempdir().unwrap();
    let good = files(folder.path(), &server, Some(&server));
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let other_key = folder.path().join("other.key");
    std::fs::write(&other_key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let missing = folder.path().join("missing");
    for (wrong, named) in [
        (
            TlsFiles {
                certificate: empty.clone(),
                ..good.clone()
            },
            &empty,
        ),
        (
            TlsFiles {
                key: empty.clone(),
                ..good.clone()
            },
            &empty,
        ),
        (
            TlsFiles {
                key: missing.clone(),
                ..good.clone()
            },
            &missing,
        ),
        (
            TlsFiles {
                client_ca: Some(empty.clone()),
                ..good.clone()
            },
            &empty,
        ),
        (
            TlsFiles {
                key: other_key,
                ..good.clone()
            },
            &good.certificate,
        ),
    ] {
        let error = Tls::load(wrong).unwrap_err();
        let (HttpError::Pem { path, .. } | HttpError::Certificate { path, .. }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(path, named, "{error:?}");
    }
}
