//! The store does not answer, or not as it should: reading pauses, memory stays, nobody is needed.

use std::time::Duration;

use crate::process::{Service, http_get};
use crate::stamp::{EAGER, SOON, Stamp, until};
use stamp_interop::{Answer, Fault, FaultProxy, Rule};

const MIB: u64 = 1 << 20;
/// The service's own limit in these tests, and the smallest there is.
const BUFFER: &str = "buffer-max = \"16MiB\"\ntenant-buffer-max = \"16MiB\"\n";
/// What the last pulls may add to the limit: their bytes were reserved, but columns double when they
/// grow, those of the two partitions from 4 to 8 MiB.
const GROWN_MAX: u64 = 4 * MIB;
/// What may be counted as buffered: the limit and what the last pulls added, and as much again when
/// everything is sealed at once and the memory to encode it is set aside.
const BUFFERED_MAX: f64 = (2 * (16 * MIB + GROWN_MAX)) as f64;
/// What the process may grow by in an outage: its buffer, as much again for what is encoded of it,
/// and what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 64 * MIB;
/// How much it may still grow by once reading has paused.
const PAUSED_GROWTH_BYTES_MAX: u64 = 8 * MIB;
const NOTE_BYTES: usize = 400;

/// Operations on the store that were given up.
fn given_up(service: &Service) -> f64 {
    let all = service.metric("stamp_retry_give_ups_total", &[]);
    all - service.metric("stamp_retry_give_ups_total", &[("peer", "eventhubs")])
}

fn is_open(service: &Service) -> bool {
    let open = [("peer", "store.contoso"), ("state", "open")];
    service.metric("stamp_breaker_state", &open) > 0.0
}

/// The hub has more events, and for two seconds none was taken.
async fn until_paused(stamp: &Stamp) {
    let mut seen = (0, 0);
    let seen = std::sync::Mutex::new(&mut seen);
    until("reading pauses", async || {
        let sent = stamp.hub.counters().events_sent;
        let mut seen = seen.lock().unwrap();
        **seen = if seen.0 == sent {
            (sent, seen.1 + 1)
        } else {
            (sent, 0)
        };
        seen.1 >= 20 && sent < stamp.sent()
    })
    .await;
}

/// A whole outage: the breaker opens, reading pauses, memory is flat, and when the store is back
/// everything is written without anybody's help.
async fn outage(breaks: impl Fn(&FaultProxy)) {
    let mut stamp = Stamp::new(2).await;
    let more = format!("[consumer]\n{EAGER}{BUFFER}{SOON}");
    let mut service = stamp.start("s-1", &more);
    stamp.publish_noted(2_000, NOTE_BYTES);
    stamp.until_settled().await;
    let before = service.resident_bytes();

    breaks(&stamp.store);
    stamp.publish_noted(50_000, NOTE_BYTES);
    until("the breaker is open", async || is_open(&service)).await;
    until_paused(&stamp).await;
    let buffered = service.metric("stamp_buffered_bytes", &[]);
    assert!(buffered <= BUFFERED_MAX, "{buffered} bytes are buffered");
    let paused = service.resident_bytes();
    stamp.publish_noted(10_000, NOTE_BYTES);
    let since = given_up(&service);
    let mut highest = paused;
    while given_up(&service) < since + 5.0 {
        highest = highest.max(service.resident_bytes());
        service.watch(Duration::from_millis(100));
        assert!(service.is_running(), "{}", service.log());
    }
    println!(
        "resident MiB: before {}, paused {}, highest {}",
        before / MIB,
        paused / MIB,
        highest / MIB
    );
    assert!(
        highest <= before + GROWTH_BYTES_MAX,
        "{before} to {highest} bytes"
    );
    assert!(
        highest <= paused + PAUSED_GROWTH_BYTES_MAX,
        "{paused} to {highest} bytes"
    );

    stamp.store.clear();
    stamp.until_settled().await;
    until("the breaker is closed", async || !is_open(&service)).await;
    service.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}

/// Fault scenario 23.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_pauses_reading_and_memory_stays_flat() {
    outage(|store| store.refuse(true)).await;
}

/// Fault scenario 15.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_busy_answers_opens_the_breaker_and_memory_stays_flat() {
    outage(|store| store.inject(Rule::new(Fault::Answer(Answer::busy())))).await;
}

/// Fault scenario 18.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hang_are_ended_by_their_timeout_and_memory_stays_flat() {
    outage(|store| store.inject(Rule::new(Fault::Hang))).await;
}

/// Fault scenario 16.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_is_not_asked_again_before_the_time_it_names() {
    let mut stamp = Stamp::new(1).await;
    let service = stamp.start("s-1", &format!("[consumer]\n{EAGER}{SOON}"));
    for status in [429, 503] {
        stamp.publish(20);
        stamp.until_settled().await;
        let pause = Duration::from_secs(2);
        let busy = Answer::new(status, "ServerBusy").retry_after(pause);
        // One partition and one tenant: its data files are put one after the other.
        let data_file = Rule::new(Fault::Answer(busy)).method("PUT");
        let from = stamp.store.seen().len();
        stamp
            .store
            .inject(data_file.path("/contoso/readings/date").times(1));
        stamp.publish(20);
        stamp.until_settled().await;

        let seen = stamp.store.seen();
        let mut puts = seen[from..]
            .iter()
            .filter(|seen| seen.method == "PUT" && seen.path.contains("/contoso/readings/date"));
        let (refused, next) = (puts.next().unwrap(), puts.next().unwrap());
        assert!(refused.broken && !next.broken, "{refused:?} then {next:?}");
        let waited = next.at - refused.at;
        assert!(waited >= pause, "{status}: again after {waited:?}");
    }
    service.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}

/// Fault scenario 17.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_bounds_what_is_in_flight_and_no_deadline_falls() {
    let mut stamp = Stamp::new(2).await;
    // The service's own policy: a slow answer is no failure by it.
    let service = stamp.start(
        "s-1",
        &format!("[consumer]\n{EAGER}{BUFFER}[resilience]\nstart-spread = \"1ms\""),
    );
    stamp.publish(100);
    stamp.until_settled().await;

    stamp.store.inject(Rule::new(Fault::Slow {
        bytes_per_s: 100_000,
    }));
    stamp.publish_noted(4_000, NOTE_BYTES);
    let flights = std::sync::atomic::AtomicU64::new(0);
    until("everything is settled", async || {
        let buffered = service.metric("stamp_buffered_bytes", &[]);
        assert!(buffered <= BUFFERED_MAX, "{buffered} bytes are buffered");
        let ready = http_get(&service.endpoints(), "/readyz");
        assert!(ready.contains("200"), "{ready}");
        let oldest = service.metric(
            "stamp_oldest_unflushed_age_seconds",
            &[("tenant", "contoso")],
        );
        if oldest > 0.5 {
            flights.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        stamp.unsettled().await == 0
    })
    .await;

    assert!(
        flights.into_inner() > 0,
        "the age of what waits was never seen"
    );
    assert_eq!(given_up(&service), 0.0);
    for outcome in ["timed_out", "transient", "throttled", "unknown"] {
        let failed = service.metric("stamp_retry_attempts_total", &[("outcome", outcome)]);
        assert_eq!(failed, 0.0, "{outcome} attempts\n{}", service.log());
    }
    service.stop();
    stamp.store.clear();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}

/// Fault scenario 19.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_replaced_is_probed_slowly_and_nothing_is_lost_until_it_works_again() {
    let mut stamp = Stamp::new(2).await;
    let mut service = stamp.start("s-1", &format!("[consumer]\n{EAGER}{SOON}"));
    stamp.publish(400);
    stamp.until_settled().await;

    stamp
        .store
        .inject(Rule::new(Fault::Answer(Answer::authentication_failed())));
    stamp.publish(400);
    let rests = || service.metric("stamp_retry_pause_seconds_count", &[("cause", "rest")]);
    until("it has rested ten times", async || rests() >= 10.0).await;
    let (asked, rested) = (stamp.store.broken(), rests());
    println!("{asked} requests were refused and {rested} rests taken");
    assert!(
        asked as f64 <= 3.0 * (rested + 4.0),
        "{asked} requests in {rested} rests is a loop"
    );
    let denied = service.metric("stamp_retry_give_ups_total", &[("reason", "permanent")]);
    assert!(denied > 0.0, "the alert has nothing to go by");
    assert!(service.is_running(), "{}", service.log());
    assert!(service.log().contains("access denied"), "{}", service.log());

    stamp.store.clear();
    stamp.until_settled().await;
    service.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
