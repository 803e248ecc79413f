//! Connections that cannot be accepted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Far more than anything takes.
const WAIT_MAX: Duration = Duration::from_secs(60);

struct Fine;

#[async_trait]
impl Handler for Fine {
    async fn answer(&self, _request: Request) -> Reply {
        Reply::new(200, "fine")
    }

    fn refuse(&self, _refusal: Refusal) -> Reply {
        Reply::new(503, "")
    }
}

/// Fails once between the first connection and the second.
struct Failing {
    listener: TcpListener,
    accepted: AtomicUsize,
    error: Mutex<Option<io::Error>>,
}

impl Listen for Failing {
    async fn next(&self) -> io::Result<TcpStream> {
        if self.accepted.load(Ordering::Relaxed) == 1
            && let Some(error) = self.error.lock().unwrap().take()
        {
            return Err(error);
        }
        let stream = self.listener.accept().await?.0;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_accepted_holds_up_no_other() {
    let no_file_left = io::Error::from_raw_os_error(24);
    for error in [io::ErrorKind::ConnectionAborted.into(), no_file_left] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let service = Service {
            tls: None,
            limits: Limits {
                connections_max: 2,
                body_bytes_max: 1_000,
                request_max: WAIT_MAX,
                idle_max: WAIT_MAX,
                age_max: WAIT_MAX,
                drain_max: Duration::ZERO,
            },
            handler: Arc::new(Fine),
            shutdown: stop.clone(),
        };
        let failing = Failing {
            listener,
            accepted: AtomicUsize::new(0),
            error: Mutex::new(Some(error)),
        };
        let accepting = tokio::spawn(accept(failing, service));
        let both = async {
            // It stays open, so that no connection ends.
            let _first = TcpStream::connect(address).await.unwrap();
            let mut second = TcpStream::connect(address).await.unwrap();
            let ask = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
            second.write_all(ask).await.unwrap();
            let mut answer = String::new();
            second.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        };
        let answered = tokio::time::timeout(WAIT_MAX, both).await;
        answered.expect("the second connection should be answered");
        stop.cancel();
        accepting.await.unwrap();
    }
}
