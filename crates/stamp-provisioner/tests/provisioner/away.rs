//! The database goes away and comes back.

use std::fmt::Write as _;

use stamp_provisioner::{ProvisionError, Provisioner};
use stamp_telemetry::Registry;
use tokio_util::sync::CancellationToken;

use crate::support::{Hanging, Running, World, again, catalogue, parts, production, registration};

const RESERVE: &str = "reserve = { share = 0.1, replicas = 2, journal = \"reserve.jsonl\" }\n";

fn world() -> World {
    World::postgresql(&catalogue(&[production("eu-1", 60)], ""))
}

async fn allocate(running: &Running, device: &str) -> (u16, String) {
    let answer = running.allocate(&registration(device, &["eu-1"])).await;
    let what = if answer.status == 200 {
        answer.origin()
    } else {
        answer.code()
    };
    (answer.status, what.to_owned())
}

fn ok(origin: &str) -> (u16, String) {
    (200, origin.to_owned())
}

/// Fault scenario 52.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_it_answers_from_memory_and_a_bounded_reserve_and_says_so() {
    let mut world = world();
    let running = world.start(RESERVE).await;
    assert_eq!(allocate(&running, "press-0").await, ok("booked"));
    world.postgres.as_mut().unwrap().kill();

    assert_eq!(allocate(&running, "press-0").await, ok("memory"));
    // DPS knows where it is, although this provisioner has never seen it.
    let known = running
        .allocate(&again("press-99", &["eu-1"], "eu-1"))
        .await;
    assert_eq!((known.stamp(), known.origin()), ("eu-1", "memory"));
    // A tenth of 60, for two provisioners.
    for number in 1..=3 {
        let device = format!("press-{number}");
        assert_eq!(allocate(&running, &device).await, ok("reserve"));
        assert_eq!(
            allocate(&running, &device).await,
            ok("reserve"),
            "the same again"
        );
    }
    assert_eq!(
        allocate(&running, "press-4").await,
        (503, "reserve-used-up".into())
    );
    assert_eq!(
        allocate(&running, "oven-1").await,
        (503, "database-away".into())
    );
    let refused = running.allocate(&registration("oven-1", &["eu-1"])).await;
    assert_eq!(refused.header("retry-after"), Some("5"));
    let home = running.look_up("/v1/tenants/contoso/stamp", "").await;
    assert_eq!((home.status, home.origin()), (200, "memory"));
    assert_eq!(home.header("cache-control"), Some("private, max-age=0"));
    let unknown = running.look_up("/v1/devices/press-77/stamp", "").await;
    assert_eq!((unknown.status, unknown.code()), (503, "database-away"));
    for (series, value) in [
        ("stamp_provision_reserve_pending", 3.0),
        ("stamp_provision_reserve_used_ratio", 1.0),
        ("stamp_provision_database_reached", 0.0),
    ] {
        assert!(
            (running.metric(series) - value).abs() < f64::EPSILON,
            "{series}"
        );
    }

    world.postgres.as_mut().unwrap().restart();
    running
        .until(async || running.metric("stamp_provision_reserve_pending") == 0.0)
        .await;
    assert_eq!(world.booked("eu-1").await, 4);
    assert_eq!(allocate(&running, "press-3").await, ok("kept"));
    assert_eq!(allocate(&running, "press-4").await, ok("booked"));
    assert_eq!(allocate(&running, "oven-1").await, ok("booked"));
    assert!((running.metric("stamp_provision_database_reached") - 1.0).abs() < f64::EPSILON);
    // All but what two provisioners keep back, and all that is booked by now.
    let name = "stamp=\"provisioner\",target_stamp=\"eu-1\"";
    let limit = |limit: &str| {
        let series =
            format!("stamp_provision_capacity{{axis=\"devices\",limit=\"{limit}\",{name}}}");
        running.metric(&series)
    };
    assert_eq!(["hard", "bookable"].map(limit), [60.0, 54.0]);
    let booked = format!("stamp_provision_booked{{axis=\"devices\",{name}}}");
    running.until(async || running.metric(&booked) == 6.0).await;
    let journal = std::fs::read_to_string(world.path("reserve.jsonl")).unwrap();
    assert_eq!(journal, "");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_away_before_a_stop_is_written_down_by_the_next_start() {
    let mut world = world();
    let running = world.start(RESERVE).await;
    assert_eq!(allocate(&running, "press-0").await, ok("booked"));
    world.postgres.as_mut().unwrap().kill();
    assert_eq!(allocate(&running, "press-1").await, ok("reserve"));
    running.stop().await;

    world.postgres.as_mut().unwrap().restart();
    assert_eq!(world.booked("eu-1").await, 1);
    let running = world.start(RESERVE).await;
    assert_eq!(world.booked("eu-1").await, 2);
    assert_eq!(allocate(&running, "press-1").await, ok("kept"));
    running.stop().await;
}

/// Fault scenarios 18 and 52.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_answered_for_like_one_that_is_gone() {
    let world = world();
    let hanging = Hanging::start(world.postgres.as_ref().unwrap().socket());
    let running = world.start_on(hanging.database(&world), RESERVE).await;
    assert_eq!(allocate(&running, "press-0").await, ok("booked"));

    hanging.hang(true);
    assert_eq!(allocate(&running, "press-0").await, ok("memory"));
    for number in 1..=3 {
        assert_eq!(
            allocate(&running, &format!("press-{number}")).await,
            ok("reserve")
        );
    }
    assert_eq!(
        allocate(&running, "press-4").await,
        (503, "reserve-used-up".into())
    );

    // Whatever hung and was passed on later counts once.
    hanging.hang(false);
    running
        .until(async || running.metric("stamp_provision_reserve_pending") == 0.0)
        .await;
    assert_eq!(allocate(&running, "press-4").await, ok("booked"));
    assert_eq!(world.booked("eu-1").await, 5);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_reserve_new_devices_wait_for_the_database_and_known_ones_do_not() {
    let mut world = world();
    let running = world.start("").await;
    assert_eq!(allocate(&running, "press-0").await, ok("booked"));
    world.postgres.as_mut().unwrap().kill();
    assert_eq!(allocate(&running, "press-0").await, ok("memory"));
    assert_eq!(
        allocate(&running, "press-1").await,
        (503, "database-away".into())
    );
    running.stop().await;
}

/// The reserve is there for outages: with the database it is never booked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_back_is_left_when_the_stamp_is_full() {
    let mut world = World::postgresql(&catalogue(&[production("eu-1", 20)], ""));
    let running = world.start(RESERVE).await;
    for number in 0..18 {
        assert_eq!(
            allocate(&running, &format!("press-{number}")).await,
            ok("booked")
        );
    }
    assert_eq!(
        allocate(&running, "press-18").await,
        (409, "no-capacity".into())
    );
    world.postgres.as_mut().unwrap().kill();
    assert_eq!(allocate(&running, "press-18").await, ok("reserve"));
    assert_eq!(
        allocate(&running, "press-19").await,
        (503, "reserve-used-up".into())
    );
    world.postgres.as_mut().unwrap().restart();
    running
        .until(async || running.metric("stamp_provision_reserve_pending") == 0.0)
        .await;
    assert_eq!(world.booked("eu-1").await, 19);
    assert_eq!(
        allocate(&running, "press-19").await,
        (409, "no-capacity".into())
    );
    running.stop().await;
}

/// An operator moves a device while the database is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_without_the_database_is_answered_from_the_reserve_and_takes_both_stamps_after() {
    let stamps = [production("eu-1", 20), production("eu-2", 20)];
    let mut world = World::postgresql(&catalogue(&stamps, "stamps = [\"eu-1\"]"));
    let running = world.start(RESERVE).await;
    let all = ["eu-1", "eu-2"];
    let first = running.allocate(&registration("press-1", &all)).await;
    assert_eq!(first.stamp(), "eu-1");

    world.postgres.as_mut().unwrap().kill();
    let moved = again("press-1", &["eu-2"], "eu-1");
    for _ in 0..2 {
        let answer = running.allocate(&moved).await;
        assert_eq!((answer.stamp(), answer.origin()), ("eu-2", "reserve"));
    }
    // A second move would take a third place, which only the database can count.
    let back = running
        .allocate(&again("press-1", &["eu-1", "elsewhere"], "eu-2"))
        .await;
    assert_eq!((back.status, back.code()), (503, "database-away"));

    world.postgres.as_mut().unwrap().restart();
    running
        .until(async || running.metric("stamp_provision_reserve_pending") == 0.0)
        .await;
    assert_eq!(
        [world.booked("eu-1").await, world.booked("eu-2").await],
        [1, 1]
    );
    let arrived = running.allocate(&again("press-1", &["eu-2"], "eu-2")).await;
    assert_eq!((arrived.stamp(), arrived.origin()), ("eu-2", "kept"));
    assert_eq!(
        [world.booked("eu-1").await, world.booked("eu-2").await],
        [0, 1]
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_long_journal_and_loses_nothing_of_it() {
    const LINES: u64 = 5_000;
    let world = World::sqlite(&catalogue(&[production("eu-1", 100_000)], ""));
    let mut journal = String::new();
    for number in 0..LINES {
        let rest = "\"tenant\":\"contoso\",\"stamp\":\"eu-1\",\"at_us\":1";
        writeln!(journal, "{{\"device\":\"press-{number}\",{rest}}}").unwrap();
    }
    std::fs::write(world.path("reserve.jsonl"), &journal).unwrap();
    let config = world.config(&world.database(), RESERVE);
    let (stop, registry) = (CancellationToken::new(), Registry::new());
    let starting = tokio::spawn({
        let (parts, stop) = (parts(&config, &registry), stop.clone());
        async move { Provisioner::start(config, parts, &stop).await.map(drop) }
    });
    let none = "stamp_provision_reserve_written_total{stamp=\"provisioner\"} 0\n";
    while registry.text().contains(none) {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    let ended = starting.await.unwrap();
    assert!(matches!(ended, Err(ProvisionError::Stopped)), "{ended:?}");
    assert!(world.booked("eu-1").await < LINES);
    let left = std::fs::read_to_string(world.path("reserve.jsonl")).unwrap();
    assert!(left == journal, "the journal was changed");
}
