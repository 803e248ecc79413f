//! Workload identity against an issuer of tokens of this test's own: a TLS server that answers
//! every request alike. The emulated services take no Entra tokens.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use stamp_resilience::{Classify as _, FailureKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls;

struct Issuer {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Issuer {
    async fn start(answer: &'static str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("token"), "header.claims.signature\n").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::default();
        let _detached = tokio::spawn(answer_all(listener, acceptor, Arc::clone(&asked), answer));
        Self {
            port,
            asked,
            folder,
        }
    }

    fn identity(&self, token_file: &Path) -> WorkloadIdentity {
        let tls = tls::connector(Some(&self.folder.path().join("ca.pem"))).unwrap();
        let authority = format!("https://localhost:{}/", self.port);
        let ids = ["tenant-1", "client-1"].map(str::to_owned);
        let [tenant, client] = ids;
        let scope = "https://iothubs.azure.net/.default";
        WorkloadIdentity::new(&authority, tenant, client, token_file.into(), scope, tls).unwrap()
    }

    fn tokens(&self) -> Tokens {
        let identity = self.identity(&self.folder.path().join("token"));
        Tokens::new(
            Credential::WorkloadIdentity(Box::new(identity)),
            "h.example",
        )
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    asked: Arc<Mutex<Vec<String>>>,
    answer: &'static str,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let mut text = String::new();
        while !is_whole(&text) {
            let mut part = [0; 4_096];
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(read) => text.push_str(&String::from_utf8_lossy(&part[..read])),
            }
        }
        asked.lock().unwrap().push(text);
        let _sent = stream.write_all(answer.as_bytes()).await;
        let _closed = stream.shutdown().await;
    }
}

/// Headers, and as much of a body as they say.
fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let mut lengths = head
        .lines()
        .filter_map(|line| line.strip_prefix("content-length: "));
    body.len()
        >= lengths
            .next()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 72\r\n\r\n\
    {\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"abc.def.ghijk\"}";

#[tokio::test]
async fn the_files_token_is_traded_for_one_of_the_service_and_kept() {
    let issuer = Issuer::start(GOOD).await;
    let tokens = issuer.tokens();
    let (header, kept) = tokens.get().await.unwrap();
    assert_eq!(
        (header.to_str().unwrap(), kept),
        ("Bearer abc.def.ghijk", false)
    );
    assert!(header.is_sensitive());
    assert!(tokens.get().await.unwrap().1);
    let asked = issuer.asked();
    assert_eq!(asked.len(), 1, "one fetch for two requests");
    assert!(
        asked[0].starts_with("POST /tenant-1/oauth2/v2.0/token HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    for part in [
        "grant_type=client_credentials",
        "client_id=client-1",
        "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer",
        "client_assertion=header.claims.signature",
        "scope=https%3A%2F%2Fiothubs.azure.net%2F.default",
    ] {
        assert!(asked[0].contains(part), "{part} is not in {}", asked[0]);
    }
}

#[tokio::test]
async fn a_refusal_names_the_issuers_reason_and_is_for_a_person() {
    let issuer = Issuer::start(
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 74\r\n\r\n\
        {\"error\":\"invalid_client\",\"error_description\":\"AADSTS700213: no matching\"}",
    )
    .await;
    let error = issuer.tokens().get().await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Permanent);
    assert!(error.is_auth());
    assert!(
        error.to_string().contains("no token for h.example"),
        "{error}"
    );
    let refusal = error.refusal().unwrap();
    assert!(
        refusal.to_string().contains("invalid_client: AADSTS700213"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_busy_issuer_passes_and_a_missing_file_does_not() {
    let issuer = Issuer::start(
        "HTTP/1.1 503 Busy\r\nconnection: close\r\nretry-after: 4\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let busy = issuer.tokens().get().await.unwrap_err();
    let retry_after = Some(Duration::from_secs(4));
    assert_eq!(busy.kind(), FailureKind::Throttled { retry_after });
    let identity = issuer.identity(Path::new("/no/such/token"));
    let missing = identity.fetch(SystemTime::now()).await.unwrap_err();
    assert_eq!(missing.kind(), FailureKind::Permanent);
    assert!(missing.to_string().contains("/no/such/token"), "{missing}");
}
