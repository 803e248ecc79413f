//! SIGTERM at bad moments.

use std::time::{Duration, Instant};

use crate::stamp::{SOON, Stamp, until};

/// Nothing is flushed by age: only a stop, or much more than these tests send.
const PATIENT: &str =
    "[consumer]\nflush-age = \"1h\"\nbatch-wait-max = \"50ms\"\ndrain-max = \"3s\"\n";

async fn until_read(stamp: &Stamp) {
    until("everything is read", async || {
        stamp.hub.counters().events_sent >= stamp.sent()
    })
    .await;
}

/// Fault scenario 40.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_window_is_clean_and_the_next_process_goes_on() {
    let mut stamp = Stamp::new(2).await;
    let more = format!("{PATIENT}{SOON}");
    // Messages are a millisecond apart, so all of them are in one window.
    for _ in 0..3 {
        stamp.publish(150);
        let mut service = stamp.start("s-1", &more);
        service.wait_for("partition opens");
        until_read(&stamp).await;
        let asked = Instant::now();
        service.stop();
        assert!(
            asked.elapsed() < Duration::from_secs(60),
            "{:?}",
            asked.elapsed()
        );
    }

    let mut service = stamp.start("s-1", &format!("[consumer]\n{}{SOON}", crate::stamp::EAGER));
    // All may be settled already: a process that has just begun is killed by a signal, not stopped.
    service.wait_for("partition opens");
    stamp.until_settled().await;
    service.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}

/// Fault scenario 41.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_an_outage_of_the_store_ends_in_its_time_and_the_rows_are_read_again() {
    let mut stamp = Stamp::new(2).await;
    stamp.publish(100);
    let service = stamp.start("s-1", &format!("[consumer]\n{}{SOON}", crate::stamp::EAGER));
    stamp.until_settled().await;
    service.stop();

    let mut service = stamp.start("s-1", &format!("{PATIENT}{SOON}"));
    service.wait_for("partition opens");
    stamp.publish(400);
    until_read(&stamp).await;
    stamp.store.refuse(true);
    service.signal("TERM");
    service.wait_for("time to drain is over");
    let (status, log) = service.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        stamp.unsettled().await >= 400,
        "the rows are kept at the hub"
    );

    stamp.store.clear();
    let service = stamp.start("s-1", &format!("[consumer]\n{}{SOON}", crate::stamp::EAGER));
    stamp.until_settled().await;
    service.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
