//! Limits, and the stop.

use super::*;

/// Far more than anything takes.
const WAIT_MAX: Duration = Duration::from_secs(60);
const ASK: &str = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

fn post(length: usize, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let (served, _, _) = start(LIMITS, None).await;
    for (length, status) in [(1_000, "200"), (1_001, "413")] {
        let text = post(length, &"x".repeat(length));
        let answer = exchange(&mut connect(&served).await, &text).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{length}: {answer}"
        );
    }
    // Chunked, so that nobody says the length beforehand.
    let chunks = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600)).repeat(2);
    let text = format!(
        "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    let answer = exchange(&mut connect(&served).await, &text).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn headers_over_the_limit_never_reach_the_handler() {
    let (served, _, _) = start(LIMITS, None).await;
    let text = format!(
        "GET / HTTP/1.1\r\nhost: h\r\nx-long: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let answer = exchange(&mut connect(&served).await, &text).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_dropped_and_the_caller_told() {
    let limits = Limits {
        request_max: Duration::from_millis(20),
        ..LIMITS
    };
    let (served, _, _) = start(limits, None).await;
    let answer = exchange(
        &mut connect(&served).await,
        &ASK.replace("GET /", "GET /wait"),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("TooSlow"),
        "{answer}"
    );
    // A body that does not come counts too.
    let answer = exchange(&mut connect(&served).await, &post(10, "x")).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_makes_room() {
    let limits = Limits {
        idle_max: Duration::from_millis(20),
        ..LIMITS
    };
    let (served, _, _) = start(limits, None).await;
    // All places are taken by callers that say nothing, or only begin.
    let mut silent = connect(&served).await;
    let mut slow = connect(&served).await;
    slow.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let answer = exchange(&mut connect(&served).await, ASK).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(!String::from_utf8(rest).unwrap().contains(" 200 "));
    }
}

#[tokio::test]
async fn a_caller_that_does_not_take_its_answer_is_cut_off_and_makes_room() {
    let limits = Limits {
        idle_max: Duration::from_millis(50),
        ..LIMITS
    };
    let (served, _, _) = start(limits, None).await;
    let mut held = Vec::new();
    for _ in 0..LIMITS.connections_max {
        let mut stream = connect(&served).await;
        let ask = ASK.replace("GET /", "GET /large");
        stream.write_all(ask.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let mut next = connect(&served).await;
    let answered = tokio::time::timeout(WAIT_MAX, exchange(&mut next, ASK)).await;
    let answer = answered.expect("there should be room for the next one");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for stream in &mut held {
        let mut taken = Vec::new();
        let _cut = stream.read_to_end(&mut taken).await;
        assert!(taken.len() < LARGE, "all of it was sent");
    }
}

#[tokio::test]
async fn a_large_answer_reaches_a_caller_that_takes_it() {
    let (served, _, _) = start(LIMITS, None).await;
    let mut stream = connect(&served).await;
    let answer = exchange(&mut stream, &ASK.replace("GET /", "GET /large")).await;
    assert!(answer.len() > LARGE, "{}", answer.len());
}

#[tokio::test]
async fn an_old_connection_gets_one_more_answer_that_says_so() {
    let limits = Limits {
        age_max: Duration::ZERO,
        ..LIMITS
    };
    let (served, _, _) = start(limits, None).await;
    let kept = ASK.replace("connection: close\r\n", "");
    let answer = exchange(&mut connect(&served).await, &kept).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn more_connections_than_there_are_places_wait_their_turn() {
    let (served, echo, _) = start(LIMITS, None).await;
    let wait = ASK.replace("GET /", "GET /wait");
    let mut held = connect(&served).await;
    held.write_all(wait.as_bytes()).await.unwrap();
    echo.waiting.acquire().await.unwrap().forget();
    let mut open = connect(&served).await;
    let mut third = connect(&served).await;

    // The second one is answered again and again while the third has asked and waits.
    for round in 0..50 {
        open.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 12];
        open.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = vec![0; 1_000];
        let _rest = open.read(&mut rest).await.unwrap();
        if round == 0 {
            third.write_all(wait.as_bytes()).await.unwrap();
        }
    }
    assert_eq!(echo.waiting.available_permits(), 0, "both places are taken");

    drop(open);
    echo.waiting.acquire().await.unwrap().forget();
    echo.told.add_permits(2);
    for stream in [&mut held, &mut third] {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_accepts_nothing_more() {
    let (mut served, echo, stop) = start(LIMITS, None).await;
    let mut stream = connect(&served).await;
    // It would be kept open for more, if there were no stop.
    stream
        .write_all(b"GET /wait HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    echo.waiting.acquire().await.unwrap().forget();

    stop.cancel();
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    echo.told.add_permits(1);

    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    served.stopped().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_longer_than_it_may() {
    let limits = Limits {
        drain_max: Duration::from_millis(20),
        ..LIMITS
    };
    let (mut served, echo, stop) = start(limits, None).await;
    let mut stream = connect(&served).await;
    stream
        .write_all(b"GET /wait HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    echo.waiting.acquire().await.unwrap().forget();
    stop.cancel();
    served.stopped().await;
    let mut text = String::new();
    let _cut = stream.read_to_string(&mut text).await;
    assert_eq!(text, "");
}
