use super::*;

/// A service that answers each request with its method, path and the length of its body.
async fn service() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let counted = done.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut client = Wire::new(client);
                while let Ok(Some(request)) = client.read_request().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let (method, path) = request.method_and_path();
                    let text = format!("{method} {path} {}", request.bytes().len());
                    let reply = match (method, path) {
                        ("HEAD", _) => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_owned(),
                        (_, "/chunked") => format!(
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
                            text.len()
                        ),
                        _ => format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                            text.len()
                        ),
                    };
                    client.write(reply.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, done)
}

struct Client {
    proxy: FaultProxy,
    done: Arc<AtomicU64>,
}

impl Client {
    async fn new() -> Self {
        let (upstream, done) = service().await;
        let proxy = FaultProxy::http(upstream).unwrap();
        Self { proxy, done }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    async fn open(&self) -> Wire {
        Wire::new(TcpStream::connect(self.proxy.address()).await.unwrap())
    }

    /// The reply's text over a connection of its own, or how that ended.
    async fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let stream = TcpStream::connect(self.proxy.address()).await?;
        ask_over(&mut Wire::new(stream), method, path, body).await
    }
}

async fn ask_over(wire: &mut Wire, method: &str, path: &str, body: &str) -> io::Result<String> {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    wire.write(text.as_bytes()).await?;
    let request = Message::of_head(text);
    let reply = wire.read_reply(&request).await?;
    Ok(String::from_utf8_lossy(reply.bytes()).into_owned())
}

#[tokio::test]
async fn what_no_rule_fits_passes_unchanged_over_one_connection() {
    let client = Client::new().await;
    let mut wire = client.open().await;

    let large = "x".repeat(300_000);
    for (method, path, body) in [
        ("GET", "/a", ""),
        ("PUT", "/b?c=d", large.as_str()),
        ("HEAD", "/e", ""),
        ("GET", "/chunked", ""),
        ("GET", "/f", ""),
    ] {
        let reply = ask_over(&mut wire, method, path, body).await.unwrap();
        let expected = if method == "HEAD" { "99" } else { path };
        assert!(reply.contains(expected), "{method} {path}: {reply}");
    }

    let seen = client.proxy.seen();
    assert_eq!((client.proxy.requests(), client.done()), (5, 5));
    assert_eq!(client.proxy.connections(), 1);
    assert_eq!(
        (seen[1].method.as_str(), seen[1].path.as_str()),
        ("PUT", "/b?c=d")
    );
    assert!(seen.iter().all(|seen| !seen.broken));
}

#[tokio::test]
async fn a_rule_is_for_its_method_path_and_count_only() {
    let client = Client::new().await;
    let busy = Answer::busy().retry_after(Duration::from_secs(7));
    let rule = Rule::new(Fault::Answer(busy)).method("PUT").path("/log/");
    client.proxy.inject(rule.times(2));

    let mut wire = client.open().await;
    assert!(
        ask_over(&mut wire, "GET", "/log/1", "")
            .await
            .unwrap()
            .contains("200")
    );
    assert!(
        ask_over(&mut wire, "PUT", "/file", "")
            .await
            .unwrap()
            .contains("200")
    );
    for _ in 0..2 {
        let reply = ask_over(&mut wire, "PUT", "/log/1", "abc").await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
        for field in [
            "Retry-After: 7",
            "x-ms-error-code: ServerBusy",
            "<Code>ServerBusy</Code>",
        ] {
            assert!(reply.contains(field), "no {field} in {reply}");
        }
    }
    assert!(
        ask_over(&mut wire, "PUT", "/log/1", "")
            .await
            .unwrap()
            .contains("200")
    );

    assert_eq!((client.proxy.requests(), client.proxy.broken()), (5, 2));
    assert_eq!(client.done(), 3, "what the proxy answers never arrives");
}

#[tokio::test]
async fn a_lost_or_torn_reply_is_of_a_request_that_was_done() {
    let client = Client::new().await;
    for (fault, done) in [
        (Fault::Cut, 0),
        (Fault::LoseReply, 1),
        (Fault::TearReply, 2),
    ] {
        client.proxy.inject(Rule::new(fault.clone()).times(1));
        let error = client.ask("PUT", "/a", "body").await.unwrap_err();
        let cut = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        assert!(cut.contains(&error.kind()), "{fault:?}: {error}");
        assert_eq!(client.done(), done, "{fault:?}");
    }
    client
        .proxy
        .inject(Rule::new(Fault::AnswerAfter(Answer::internal_error())).times(1));
    let reply = client.ask("PUT", "/a", "").await.unwrap();
    assert!(reply.contains("500 InternalError"), "{reply}");
    assert_eq!(client.done(), 3);
}

#[tokio::test]
async fn what_hangs_gets_no_byte_until_the_proxy_is_cleared() {
    let client = Client::new().await;
    client.proxy.inject(Rule::new(Fault::Hang));
    let mut asked = Box::pin(client.ask("GET", "/a", ""));
    while client.proxy.requests() == 0 {
        tokio::select! {
            biased;
            answer = &mut asked => panic!("answered: {answer:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    client.proxy.clear();

    assert!(asked.await.is_err());
    assert_eq!(client.done(), 0);
    assert!(client.ask("GET", "/a", "").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reply_takes_the_time_of_its_bytes() {
    let client = Client::new().await;
    client
        .proxy
        .inject(Rule::new(Fault::Slow { bytes_per_s: 1_000 }).times(1));
    let began = Instant::now();

    let reply = client.ask("PUT", "/a", &"x".repeat(5_000)).await.unwrap();

    assert!(reply.contains("PUT /a"), "{reply}");
    assert!(
        began.elapsed() >= Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_with_a_time_ends_with_it() {
    let client = Client::new().await;
    let rule = Rule::new(Fault::Answer(Answer::busy())).lasting(Duration::from_secs(5));
    client.proxy.inject(rule);
    assert!(client.ask("GET", "/a", "").await.unwrap().contains("503"));

    tokio::time::advance(Duration::from_secs(6)).await;

    assert!(client.ask("GET", "/a", "").await.unwrap().contains("200"));
}

/// Tries until connecting ends as expected; the proxy changes its mind on its own task.
async fn until_connected(client: &Client, expected: bool) {
    while TcpStream::connect(client.proxy.address()).await.is_ok() != expected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn while_it_refuses_nobody_listens_and_the_port_stays_its_own() {
    let client = Client::new().await;
    let mut wire = client.open().await;
    assert!(ask_over(&mut wire, "GET", "/a", "").await.is_ok());

    client.proxy.refuse(true);
    until_connected(&client, false).await;
    assert!(ask_over(&mut wire, "GET", "/a", "").await.is_err());
    assert!(TcpListener::bind(client.proxy.address()).await.is_err());

    client.proxy.refuse(false);
    until_connected(&client, true).await;
    assert!(client.ask("GET", "/a", "").await.unwrap().contains("200"));
}

#[tokio::test]
async fn bytes_pass_are_frozen_and_are_cut() {
    let (upstream, _) = service().await;
    let proxy = FaultProxy::bytes(upstream).unwrap();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut wire = Wire::new(stream);
    assert!(
        ask_over(&mut wire, "GET", "/a", "")
            .await
            .unwrap()
            .contains("GET /a")
    );

    proxy.freeze(true);
    let mut asked = Box::pin(ask_over(&mut wire, "GET", "/b", ""));
    // A hundred others are answered that do not go through the proxy.
    let mut direct = Wire::new(TcpStream::connect(upstream).await.unwrap());
    for _ in 0..100 {
        tokio::select! {
            biased;
            answer = &mut asked => panic!("answered: {answer:?}"),
            other = ask_over(&mut direct, "GET", "/c", "") => assert!(other.is_ok()),
        }
    }
    proxy.freeze(false);
    assert!(asked.await.unwrap().contains("GET /b"));

    proxy.cut();
    wire.gone().await;
    assert_eq!((proxy.connections(), proxy.requests()), (1, 0));
}
