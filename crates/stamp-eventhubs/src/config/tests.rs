use std::time::Duration;

use super::{AmqpConfig, ConnectionString, Credential, Endpoint};
use crate::HubError;

fn parse(toml: &str) -> Result<AmqpConfig, toml::de::Error> {
    toml::from_str(toml)
}

fn endpoint(text: &str) -> Result<(String, u16, bool), HubError> {
    Endpoint::parse("endpoint", text).map(|e| (e.host, e.port, e.tls))
}

#[test]
fn a_config_needs_only_what_has_no_default() {
    let config = parse("connection-string-env = \"HUB\"\nhub = \"telemetry\"").unwrap();
    config.validate().unwrap();
    assert_eq!(config.consumer_group, "$Default");
    assert_eq!(config.credit, 1_000);
    assert_eq!(config.connect_timeout, Duration::from_secs(10));
}

#[test]
fn a_printed_config_reads_back_the_same() {
    let config = AmqpConfig {
        endpoint: Some("amqp://127.0.0.1:5673".to_owned()),
        hub: Some("telemetry".to_owned()),
        idle_timeout: Duration::from_secs(90),
        ..AmqpConfig::default()
    };
    let printed = toml::to_string(&config).unwrap();
    assert!(printed.contains("idle-timeout = \"1m 30s\""), "{printed}");
    assert_eq!(parse(&printed).unwrap(), config);
}

#[test]
fn an_unknown_key_and_a_bare_number_of_seconds_are_refused() {
    assert!(
        parse("prefetch = 3")
            .unwrap_err()
            .to_string()
            .contains("prefetch")
    );
    let error = parse("connect-timeout = \"10\"").unwrap_err().to_string();
    assert!(error.contains("duration"), "{error}");
}

#[test]
fn what_cannot_work_is_refused_by_its_key() {
    let good = AmqpConfig::default();
    let table = [
        (
            "credit",
            AmqpConfig {
                credit: 0,
                ..good.clone()
            },
        ),
        (
            "credit",
            AmqpConfig {
                credit: 4_001,
                ..good.clone()
            },
        ),
        (
            "connect-timeout",
            AmqpConfig {
                connect_timeout: Duration::ZERO,
                ..good.clone()
            },
        ),
        (
            "idle-timeout",
            AmqpConfig {
                idle_timeout: Duration::from_secs(9_999),
                ..good.clone()
            },
        ),
        (
            "consumer-group",
            AmqpConfig {
                consumer_group: "a/b".to_owned(),
                ..good.clone()
            },
        ),
        (
            "hub",
            AmqpConfig {
                hub: Some(String::new()),
                ..good.clone()
            },
        ),
        (
            "endpoint",
            AmqpConfig {
                endpoint: Some("hub".to_owned()),
                ..good.clone()
            },
        ),
        (
            "connection-string-env",
            AmqpConfig {
                connection_string_env: Some("A".to_owned()),
                connection_string_file: Some("b".into()),
                ..good
            },
        ),
    ];
    for (expected, config) in table {
        let error = config.validate().unwrap_err();
        assert!(
            matches!(&error, HubError::BadConfig { key, .. } if *key == expected),
            "{expected}: {error}"
        );
    }
}

#[test]
fn an_endpoint_says_its_transport_and_port() {
    let cases = [
        ("amqps://Ns.Example", "ns.example", 5671, true),
        ("sb://ns.example/", "ns.example", 5671, true),
        ("amqp://127.0.0.1", "127.0.0.1", 5672, false),
        ("amqp://localhost:80/", "localhost", 80, false),
        ("amqp://[::1]:5673", "::1", 5673, false),
    ];
    for (text, host, port, tls) in cases {
        assert_eq!(
            endpoint(text).unwrap(),
            (host.to_owned(), port, tls),
            "{text}"
        );
    }
    for bad in [
        "",
        "ns",
        "http://ns",
        "amqps://",
        "amqps://ns/hub",
        "amqps://u:p@ns",
        "amqp://ns:0x",
    ] {
        assert!(endpoint(bad).is_err(), "{bad:?} was accepted");
    }
}

const KEYED: &str = "Endpoint=sb://Contoso.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=c2VjcmV0PQ==";

#[test]
fn a_connection_string_is_read_without_regard_to_the_case_of_its_keys() {
    let text = format!(
        "{};entitypath=telemetry;;",
        KEYED.replace("Endpoint", "endpoint")
    );
    let parsed = ConnectionString::parse("k", &text).unwrap();
    assert_eq!(parsed.endpoint.host, "contoso.servicebus.windows.net");
    assert!(parsed.endpoint.tls);
    assert_eq!(parsed.hub.as_deref(), Some("telemetry"));
    assert!(
        matches!(&parsed.credential, Credential::SharedKey { name, key }
            if name == "listen" && key.reveal() == "c2VjcmV0PQ=="),
        "the key keeps its padding"
    );
}

#[test]
fn the_development_emulator_is_reached_by_plain_tcp() {
    let text = format!(
        "{};UseDevelopmentEmulator=true",
        KEYED.replace("Contoso.servicebus.windows.net/", "localhost")
    );
    let parsed = ConnectionString::parse("k", &text).unwrap();
    assert_eq!((parsed.endpoint.port, parsed.endpoint.tls), (5672, false));
    let with_port = text.replace("localhost", "localhost:5673");
    assert_eq!(
        ConnectionString::parse("k", &with_port)
            .unwrap()
            .endpoint
            .port,
        5673
    );
}

#[test]
fn a_bad_connection_string_is_refused_without_showing_it() {
    let bad = [
        "",
        "hunter2",
        "Endpoint=sb://ns/;SharedAccessKey=hunter2",
        "SharedAccessKeyName=n;SharedAccessKey=hunter2",
        "Endpoint=http://ns/;SharedAccessKeyName=n;SharedAccessKey=hunter2",
        "Endpoint=sb://n s/hunter2;SharedAccessKeyName=n;SharedAccessKey=hunter2",
        "Endpoint=sb://ns/;SharedAccessKeyName=n;SharedAccessKey=hunter2;SharedAccessSignature=x",
    ];
    for text in bad {
        let error = ConnectionString::parse("connection-string-env", text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("connection-string-env"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_parsed_secret_is_not_shown() {
    let shown = format!("{:?}", ConnectionString::parse("k", KEYED).unwrap());
    assert!(
        shown.contains("***") && !shown.contains("c2VjcmV0"),
        "{shown}"
    );
}

#[test]
fn a_missing_variable_or_file_is_named() {
    let from_env = AmqpConfig {
        connection_string_env: Some("STAMP_TEST_NO_SUCH_VARIABLE".to_owned()),
        ..AmqpConfig::default()
    };
    let error = from_env.read_connection_string().unwrap_err().to_string();
    assert!(error.contains("STAMP_TEST_NO_SUCH_VARIABLE"), "{error}");
    let from_file = AmqpConfig {
        connection_string_file: Some("/no/such/file".into()),
        ..AmqpConfig::default()
    };
    let error = from_file.read_connection_string().unwrap_err().to_string();
    assert!(error.contains("/no/such/file"), "{error}");
}
