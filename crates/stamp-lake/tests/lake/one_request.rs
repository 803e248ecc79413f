//! One operation, one request on the wire: the store client repeats nothing by itself.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::suite::{encoded, partition, readings_table};
use stamp_lake::{Checkpoint, Lake, LakeError, StoreConfig};
use stamp_resilience::{Classify, FailureKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// The request lines a server has seen.
type Seen = Arc<Mutex<Vec<String>>>;

/// A store that answers every request as `answer` says, given its first line.
struct Server {
    lake: Lake,
    seen: Seen,
    _key: tempfile::NamedTempFile,
}

impl Server {
    async fn start(answer: fn(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), answer));
            }
        });
        let mut key = tempfile::NamedTempFile::new().unwrap();
        writeln!(key, "a2V5").unwrap();
        let mut config = StoreConfig::new("az://contoso/telemetry");
        config.endpoint = Some(format!("http://127.0.0.1:{port}/contoso"));
        config.account_key_file = Some(key.path().to_owned());
        Self {
            lake: Lake::open(&config, Handle::current()).unwrap(),
            seen,
            _key: key,
        }
    }

    /// What was asked since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn serve(mut stream: TcpStream, seen: Seen, answer: fn(&str) -> String) {
    let mut buffer = Vec::new();
    while let Some(end) = read_head(&mut stream, &mut buffer).await {
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let body = head
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or(0_usize);
        while buffer.len() < end + body {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        buffer.drain(..end + body);
        let line = head.lines().next().unwrap_or_default().to_owned();
        seen.lock().unwrap().push(line.clone());
        if stream.write_all(answer(&line).as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Some(at + 4);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn busy(_: &str) -> String {
    response(
        "503 Server Busy",
        "retry-after: 7\r\nx-ms-error-code: ServerBusy\r\n",
        "",
    )
}

fn busy_for(seconds: u64) -> FailureKind {
    FailureKind::Throttled {
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_store_is_asked_once_and_its_pause_is_passed_on() {
    let server = Server::start(busy).await;
    let table = readings_table(&server.lake, "acme");
    let checkpoints = server.lake.checkpoints("n", "h", "g");
    let to = Checkpoint {
        sequence: 1,
        offset: "1".into(),
        hub_created_at_ms: None,
    };

    let error = server.lake.probe().await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (busy_for(7), 1),
        "{error:?}"
    );
    let error = table
        .put(&encoded(partition(0), 0..3)[0])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (busy_for(7), 1),
        "{error:?}"
    );
    let error = table.load().await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (busy_for(7), 1),
        "{error:?}"
    );
    let error = table.count().await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (busy_for(7), 1),
        "{error:?}"
    );
    let error = checkpoints.read(partition(0)).await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (busy_for(7), 1),
        "{error:?}"
    );
    let error = checkpoints.advance(partition(0), &to).await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (busy_for(7), 1),
        "{error:?}"
    );
}

/// An empty store that refuses writes.
fn no_writes(line: &str) -> String {
    let empty = "<?xml version=\"1.0\"?><EnumerationResults><Blobs></Blobs><NextMarker/></EnumerationResults>";
    if line.starts_with("GET") {
        response("200 OK", "content-type: application/xml\r\n", empty)
    } else if line.starts_with("HEAD") {
        response("404 Not Found", "", "")
    } else {
        busy(line)
    }
}

/// Fault scenario 8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_gets_a_busy_answer_is_sent_once_and_unknown() {
    let server = Server::start(no_writes).await;

    let error = readings_table(&server.lake, "acme")
        .load()
        .await
        .unwrap_err();

    assert_eq!(error.kind(), FailureKind::Unknown, "{error:?}");
    let writes = server
        .asked()
        .into_iter()
        .filter(|line| line.starts_with("PUT"));
    let writes: Vec<_> = writes.collect();
    assert_eq!(writes.len(), 1, "{writes:?}");
    assert!(
        writes[0].contains("_delta_log/00000000000000000000.json"),
        "{writes:?}"
    );
}

fn no_permission(line: &str) -> String {
    if line.starts_with("PUT") {
        let code = "x-ms-error-code: AuthorizationPermissionMismatch\r\n";
        response("403 Forbidden", code, "")
    } else {
        no_writes(line)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_denied_is_known_not_to_be_done() {
    let server = Server::start(no_permission).await;

    let error = readings_table(&server.lake, "acme")
        .load()
        .await
        .unwrap_err();

    assert!(matches!(error, LakeError::Denied { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_gets_a_busy_answer_is_sent_once_and_unknown() {
    let server = Server::start(no_writes).await;
    let to = Checkpoint {
        sequence: 1,
        offset: "1".into(),
        hub_created_at_ms: None,
    };

    let checkpoints = server.lake.checkpoints("n", "h", "g");
    let error = checkpoints.advance(partition(0), &to).await.unwrap_err();

    assert_eq!(error.kind(), FailureKind::Unknown, "{error:?}");
    let asked: Vec<_> = server.asked();
    let methods: Vec<_> = asked.iter().map(|line| &line[..4]).collect();
    assert_eq!(methods, ["HEAD", "PUT "], "{asked:?}");
}

async fn check_put(answer: fn(&str) -> String, expected: fn(&LakeError) -> bool) {
    let server = Server::start(answer).await;
    let table = readings_table(&server.lake, "acme");
    let error = table
        .put(&encoded(partition(0), 0..3)[0])
        .await
        .unwrap_err();
    assert!(expected(&error), "{error:?}");
    assert_eq!(server.asked().len(), 1, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_sorted_by_what_the_caller_can_do() {
    let denied = |_: &str| {
        response(
            "403 Forbidden",
            "x-ms-error-code: AuthorizationFailure\r\n",
            "",
        )
    };
    check_put(denied, |error| matches!(error, LakeError::Denied { .. })).await;
    let no_container = |_: &str| {
        response(
            "404 Not Found",
            "x-ms-error-code: ContainerNotFound\r\n",
            "",
        )
    };
    check_put(no_container, |error| {
        matches!(error, LakeError::Missing { .. })
    })
    .await;
    // Azure's other 409s must not look like a lost race: the caller would try again for ever.
    let leaving = |_: &str| {
        response(
            "409 Conflict",
            "x-ms-error-code: ContainerBeingDeleted\r\n",
            "",
        )
    };
    check_put(leaving, |error| matches!(error, LakeError::Refused { .. })).await;
    let wrong = |_: &str| {
        response(
            "400 Bad Request",
            "",
            "<Error><Code>InvalidHeaderValue</Code></Error>",
        )
    };
    check_put(wrong, |error| {
        let chain = format!("{error:?}");
        matches!(error, LakeError::Refused { .. }) && chain.contains("InvalidHeaderValue")
    })
    .await;
    let broken = |_: &str| response("500 Internal Server Error", "", "");
    check_put(broken, |error| matches!(error, LakeError::Transient { .. })).await;
    let slow = |_: &str| response("429 Too Many Requests", "x-ms-retry-after-ms: 250\r\n", "");
    check_put(slow, |error| {
        let pause = Some(Duration::from_millis(250));
        error.kind() == FailureKind::Throttled { retry_after: pause }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_has_done_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut key = tempfile::NamedTempFile::new().unwrap();
    writeln!(key, "a2V5").unwrap();
    let mut config = StoreConfig::new("az://contoso/telemetry");
    config.endpoint = Some(format!("http://127.0.0.1:{port}/contoso"));
    config.account_key_file = Some(key.path().to_owned());

    let lake = Lake::open(&config, Handle::current()).unwrap();
    let error = lake.probe().await.unwrap_err();

    assert_eq!(error.kind(), FailureKind::Transient, "{error:?}");
}

#[tokio::test]
async fn a_missing_secret_is_named_and_no_secret_is_printed() {
    let mut config = StoreConfig::new("az://contoso/telemetry");
    config.account_key_file = Some("/nowhere/key".into());
    let error = Lake::open(&config, Handle::current())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("account-key-file") && error.contains("/nowhere/key"),
        "{error}"
    );

    let mut key = tempfile::NamedTempFile::new().unwrap();
    writeln!(key, "c2VjcmV0LWtleQ==").unwrap();
    config.account_key_file = Some(key.path().to_owned());
    let lake = Lake::open(&config, Handle::current()).unwrap();
    let table = readings_table(&lake, "acme");
    let printed = format!(
        "{config:?} {lake:?} {table:?} {:?}",
        lake.checkpoints("n", "h", "g")
    );
    assert!(!printed.contains("c2VjcmV0"), "{printed}");
}
