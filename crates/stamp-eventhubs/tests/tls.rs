//! TLS first, with certificates that the system or the configuration trusts and with no others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use stamp_emulator::{EmulatorConfig, EventHubsEmulator, OutgoingEvent};
use stamp_eventhubs::{
    AmqpConfig, AmqpHub, EventHub, HubError, PartitionSource, StartPosition, TlsConfig,
};
use stamp_model::{BatchLimits, PartitionId};
use stamp_resilience::{Classify, FailureKind};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const HUB: &str = "telemetry";

/// An authority of our own, and a server certificate from it.
fn certificates(server_name: &str) -> (String, ServerConfig) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec![server_name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
    (authority.pem(), config)
}

/// Ends TLS in front of `emulator`; returns the port.
async fn terminate_tls(config: ServerConfig, emulator: &EventHubsEmulator) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let behind = emulator.address();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that refuses our certificate ends its own handshake.
            let Ok(mut client) = acceptor.accept(client).await else {
                continue;
            };
            let mut server = TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move {
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    port
}

async fn emulator() -> EventHubsEmulator {
    EventHubsEmulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..EmulatorConfig::default()
    })
    .await
    .unwrap()
}

/// A client with a real credential that reaches its namespace by way of localhost.
fn client(port: u16, extra_ca_file: Option<&Path>) -> AmqpHub {
    let config = AmqpConfig {
        endpoint: Some(format!("amqps://localhost:{port}")),
        hub: Some(HUB.to_owned()),
        tls: TlsConfig {
            extra_ca_file: extra_ca_file.map(Path::to_owned),
        },
        ..AmqpConfig::default()
    };
    let keyed = "Endpoint=sb://ns.example/;SharedAccessKeyName=listen;SharedAccessKey=c2VjcmV0";
    AmqpHub::with_connection_string(&config, keyed).unwrap()
}

#[tokio::test]
async fn an_authority_from_the_configuration_is_trusted() {
    let emulator = emulator().await;
    let hub = emulator.hub(HUB).unwrap();
    for _ in 0..2_000 {
        let body = vec![b'x'; 300].into();
        hub.publish(
            0,
            OutgoingEvent {
                body,
                ..OutgoingEvent::default()
            },
        )
        .unwrap();
    }
    let (authority, config) = certificates("localhost");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority).unwrap();
    let client = client(terminate_tls(config, &emulator).await, Some(file.path()));

    let properties = client.properties().await.unwrap();
    assert_eq!(properties.identity.namespace, "ns.example");
    let partition = PartitionId::new(0).unwrap();
    let mut source = client
        .open(partition, StartPosition::Earliest, Some(1))
        .await
        .unwrap();
    let limits = BatchLimits {
        events_max: 500,
        bytes_max: 1 << 20,
        wait_max: Duration::from_secs(60),
    };
    let mut received = 0;
    while received < 2_000 {
        let events = source.next_batch(limits).await.unwrap().events;
        assert!(!events.is_empty(), "stalled at {received}");
        received += events.len();
    }
    source.close().await;
}

#[tokio::test]
async fn a_stranger_and_another_name_are_refused_for_good() {
    let emulator = emulator().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let (authority, another_name) = certificates("elsewhere.example");
    std::fs::write(file.path(), authority).unwrap();
    let (_, stranger) = certificates("localhost");
    for config in [another_name, stranger] {
        let port = terminate_tls(config, &emulator).await;
        let error = client(port, Some(file.path()))
            .properties()
            .await
            .unwrap_err();
        assert!(
            matches!(&error, HubError::Certificate { peer, .. } if *peer == format!("localhost:{port}")),
            "{error:?}"
        );
        assert_eq!(error.kind(), FailureKind::Permanent);
    }
    assert_eq!(emulator.counters().connections_opened, 0);
}

#[tokio::test]
async fn a_peer_without_tls_is_not_spoken_to_in_the_clear() {
    let emulator = emulator().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificates("localhost").0).unwrap();
    let port = emulator.address().port();
    let error = client(port, Some(file.path()))
        .properties()
        .await
        .unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    assert_eq!(emulator.counters().put_tokens, 0);
}
