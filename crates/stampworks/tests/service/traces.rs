//! The service's spans reach a collector, linked to the traces that devices began.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::process::Service;
use crate::support::{emulator, publish, write_config};
use crate::verify::settle;
use bytes::Bytes;
use stamp_emulator::OutgoingEvent;
use stamp_model::{HubStamp, MessageSource};

/// Requests: the head and the body.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes whatever it is sent. Ends with the test's process.
fn collector() -> (SocketAddr, Requests) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Requests::default();
    let kept = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let kept = kept.clone();
            std::thread::spawn(move || answer(stream, &kept));
        }
    });
    (address, requests)
}

/// Answers each request of a connection with 200, until it ends.
fn answer(stream: TcpStream, kept: &Requests) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (reader.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        let lower = head.to_lowercase();
        let length = lower.split("content-length:").nth(1)?.lines().next()?;
        let mut body = vec![0; length.trim().parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((lower, body));
        writer
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}

fn traced(property: &str, traceparent: &str) -> OutgoingEvent {
    OutgoingEvent {
        body: Bytes::from_static(br#"{"value":1}"#),
        hub: HubStamp {
            device_id: Some("d-1".into()),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        },
        properties: vec![(property.into(), traceparent.into())],
        ..OutgoingEvent::default()
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_a_flush_reaches_the_collector_with_the_traces_of_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(2).await;
    let hub = emulator.hub("telemetry").unwrap();
    for (property, trace) in [("traceparent", "a1"), ("Diagnostic-Id", "b2")] {
        let traceparent = format!("00-{}-00f067aa0ba902b7-01", trace.repeat(16));
        hub.publish(0, traced(property, &traceparent)).unwrap();
    }
    hub.publish(0, traced("traceparent", "what a device likes"))
        .unwrap();
    publish(&hub, 1);
    let (address, requests) = collector();
    let endpoint = format!("amqp://{}", emulator.address());
    let store = format!("url = \"file://{}/tables\"", folder.path().display());
    let config = write_config(
        folder.path(),
        &endpoint,
        &store,
        "[consumer]\nflush-age = \"200ms\"\nbatch-wait-max = \"50ms\"\n[resilience]\nstart-spread = \"1ms\"\n",
    );
    let text = std::fs::read_to_string(&config).unwrap();
    let traces = format!(
        "traces = {{ endpoint = \"http://{address}/v1/traces\", headers-env = \"OTLP_HEADERS\" }}\nlog-filter"
    );
    std::fs::write(&config, text.replace("log-filter", &traces)).unwrap();

    let mut service = Service::start(&config, &[("OTLP_HEADERS", "x-api-key=secret")]);
    service.wait_for("partition opens");
    settle(folder.path(), &hub, &mut service).await;
    let (status, log) = service.terminate();

    assert_eq!(status.code(), Some(0), "{log}");
    let requests = requests.lock().unwrap();
    let all: Vec<u8> = requests.iter().flat_map(|(_, body)| body.clone()).collect();
    for part in [
        &b"flush telemetry"[..],
        b"contoso",
        &[0xa1; 16],
        &[0xb2; 16],
    ] {
        assert!(holds(&all, part), "no {part:x?}");
    }
    for (head, _) in requests.iter() {
        assert!(
            head.starts_with("post /v1/traces") && head.contains("x-api-key: secret"),
            "{head}"
        );
    }
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_no_fault_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(2).await;
    let hub = emulator.hub("telemetry").unwrap();
    (0..40).for_each(|number| publish(&hub, number));
    let endpoint = format!("amqp://{}", emulator.address());
    let store = format!("url = \"file://{}/tables\"", folder.path().display());
    let config = write_config(
        folder.path(),
        &endpoint,
        &store,
        "[consumer]\nflush-age = \"200ms\"\nbatch-wait-max = \"50ms\"\n[resilience]\nstart-spread = \"1ms\"\n",
    );
    let text = std::fs::read_to_string(&config).unwrap();
    // Port 1 of loopback: nobody listens there.
    let traces = "traces = { endpoint = \"http://127.0.0.1:1/v1/traces\" }\nlog-filter";
    std::fs::write(&config, text.replace("log-filter", traces)).unwrap();

    let mut service = Service::start(&config, &[]);
    service.wait_for("partition opens");
    settle(folder.path(), &hub, &mut service).await;

    assert_eq!(service.terminate().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_not_there_or_not_read_are_named_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("url = \"file://{}/tables\"", folder.path().display());
    let config = write_config(folder.path(), "amqp://127.0.0.1:1", &store, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let traces = "traces = { endpoint = \"http://127.0.0.1:1/v1/traces\", headers-env = \"OTLP_HEADERS\" }\nlog-filter";
    std::fs::write(&config, text.replace("log-filter", traces)).unwrap();

    for environment in [&[][..], &[("OTLP_HEADERS", "secret-without-a-name")]] {
        let mut service = Service::start(&config, environment);
        let (status, log) = service.ended();

        assert_eq!(status.code(), Some(3), "{log}");
        assert!(log.contains("telemetry.traces.headers-env"), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}
