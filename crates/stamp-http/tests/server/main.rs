//! What the server promises to callers and to whoever runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod limits;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stamp_http::{Handler, Limits, Refusal, Reply, Request, Served, Tls, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) const LIMITS: Limits = Limits {
    connections_max: 2,
    body_bytes_max: 1_000,
    request_max: Duration::from_secs(60),
    idle_max: Duration::from_secs(60),
    age_max: Duration::from_secs(60),
    drain_max: Duration::from_secs(60),
};

/// More than the buffers between two sockets take.
pub(crate) const LARGE: usize = 64 << 20;

/// Says what it got; `/wait` only once it is told to, `/large` at length.
pub(crate) struct Echo {
    pub(crate) waiting: Semaphore,
    pub(crate) told: Semaphore,
}

impl Echo {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            waiting: Semaphore::new(0),
            told: Semaphore::new(0),
        })
    }
}

#[async_trait]
impl Handler for Echo {
    async fn answer(&self, request: Request) -> Reply {
        if request.path == "/wait" {
            self.waiting.add_permits(1);
            self.told.acquire().await.unwrap().forget();
        }
        if request.path == "/large" {
            return Reply::new(200, vec![b'x'; LARGE]);
        }
        let body = format!(
            "{} {} {:?} {:?} {} {}",
            request.method,
            request.path,
            request.query,
            request.header("x-one"),
            request.is_certified,
            request.body.len()
        );
        Reply::new(200, body)
            .with_header("x-two", "2")
            .with_header("x-bad", "a\nb")
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let status = match refusal {
            Refusal::BodyTooLarge => 413,
            Refusal::BodyBroken => 400,
            Refusal::TooSlow => 503,
        };
        Reply::new(status, format!("{refusal:?}"))
    }
}

pub(crate) async fn start(
    limits: Limits,
    tls: Option<Tls>,
) -> (Served, Arc<Echo>, CancellationToken) {
    let (echo, stop) = (Echo::new(), CancellationToken::new());
    let listen = ([127, 0, 0, 1], 0).into();
    let served = serve(listen, tls, limits, Arc::clone(&echo), stop.clone())
        .await
        .unwrap();
    (served, echo, stop)
}

pub(crate) async fn connect(served: &Served) -> TcpStream {
    TcpStream::connect(served.address).await.unwrap()
}

/// Sends and reads to the end of the connection.
pub(crate) async fn exchange(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    text: &str,
) -> String {
    let _sent = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _cut = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_handler_gets_whole_requests_and_its_reply_is_sent_as_it_is() {
    let (served, _, _) = start(LIMITS, None).await;
    let mut stream = connect(&served).await;
    let text = "POST /a%20b?c=d&e HTTP/1.1\r\nhost: h\r\nX-One: 1\r\ncontent-length: 3\r\n\r\nxyz\
                GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let answer = exchange(&mut stream, text).await;
    assert!(
        answer.contains("POST /a%20b Some(\"c=d&e\") Some(\"1\") false 3"),
        "{answer}"
    );
    assert!(answer.contains("GET / None None false 0"), "{answer}");
    assert_eq!(
        answer.matches("x-two: 2\r\n").count(),
        2,
        "one connection, two requests"
    );
    assert!(!answer.contains("x-bad"), "what is no header is left out");
}
