//! What the service may still write, has written, or wrote of an earlier hub.

use bytes::Bytes;
use stamp_consumer::{ReplayOptions, ReplayProgress, ReplaySource};
use stamp_lake::{EncodeOptions, RawKind, encode_raw, encode_readings};
use stamp_model::{AppId, Mark, RawRow, Readings, StampId, Values};
use tokio_util::sync::CancellationToken;

use crate::support::{
    CREATED_AT_MS, EVENTS, NOW_US, Rules, World, alpha, identity, partition, publish,
};

#[tokio::test(start_paused = true)]
async fn what_comes_in_lies_below_the_marks_so_that_nobody_else_can_write_it() {
    let world = World::settled().await;
    // A flush without a reading leaves the marks of readings and rollups where they are.
    publish(&world.hub, EVENTS + 1..EVENTS + 2, NOW_US);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS).await;
    running.stop().await;

    assert_eq!(world.replay(ReplaySource::Rejected).await.returned, 6);

    let root = world.lake.tenant(&alpha());
    let shape = Rules::Fixed.plans(&world.lake)[0].schema.shape().clone();
    for table in [root.readings(&shape), root.rollups()] {
        let snapshot = table.newest().await.unwrap().unwrap();
        for number in 0..2 {
            let stamp = StampId::parse("s-1").unwrap();
            let app = AppId::new(&stamp, &identity(CREATED_AT_MS), partition(number));
            assert_eq!(snapshot.mark(&app), Some(EVENTS), "{table:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_lost_its_checkpoint_does_not_read_a_returned_event_again() {
    let world = World::settled().await;
    // A flush without a reading leaves the mark of readings where it is.
    publish(&world.hub, EVENTS + 1..EVENTS + 2, NOW_US);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS).await;
    running.stop().await;
    assert_eq!(world.replay(ReplaySource::Rejected).await.returned, 6);
    world.replay(ReplaySource::Quarantine).await;
    let names = identity(CREATED_AT_MS);
    let checkpoints = world
        .lake
        .checkpoints(&names.namespace, &names.hub, "$Default");
    for number in 0..2 {
        checkpoints.set_aside(partition(number)).await.unwrap();
    }

    let running = world.consume(Rules::Fixed).await;
    running.until_settled(EVENTS).await;
    running.stop().await;

    let readings = world.rows("readings").await;
    assert_eq!(readings.len(), 12 + 2);
    assert!(readings.values().all(|&rows| rows == 1), "{readings:?}");
    let [from_readings, from_rollups] = world.totals().await;
    assert_eq!(from_rollups, from_readings);
}

#[tokio::test(start_paused = true)]
async fn readings_of_a_late_owner_are_rolled_up_after_a_replay_too() {
    let world = World::settled().await;
    // A flush without a reading leaves the marks where they are, so the replay moves them.
    publish(&world.hub, EVENTS + 1..EVENTS + 2, NOW_US);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS).await;
    running.stop().await;
    // An owner that was late wrote a reading below the checkpoint and was killed before its rollup.
    let root = world.lake.tenant(&alpha());
    let shape = Rules::Before.plans(&world.lake)[0].schema.shape().clone();
    let table = root.readings(&shape);
    let mut rows = Readings::new(&shape, partition(0));
    rows.device.push(rows.devices.intern("a-1"));
    rows.ts_us.push(NOW_US);
    rows.enqueued_at_us.push(NOW_US);
    rows.late.push(false);
    rows.clock_suspect.push(false);
    rows.sequence.push(6);
    if let Values::F64(values) = &mut rows.columns[0].values {
        values.push(3.0);
    }
    let files = encode_readings(&shape, &rows, &[0], &EncodeOptions::default()).unwrap();
    let file = table.put(&files[0]).await.unwrap();
    let app = AppId::new(
        &StampId::parse("s-1").unwrap(),
        &identity(CREATED_AT_MS),
        partition(0),
    );
    let snapshot = table.load().await.unwrap();
    let mark = Mark { app, sequence: 6 };
    table.append(&snapshot, vec![file], &[mark]).await.unwrap();

    assert_eq!(world.replay(ReplaySource::Rejected).await.returned, 6);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS).await;
    running.stop().await;

    let [from_readings, from_rollups] = world.totals().await;
    assert_eq!(from_rollups, from_readings);
}

fn kept(sequence: i64, enqueued_at_us: i64, reason: &'static str, value: &str) -> RawRow {
    RawRow {
        reason,
        detail: String::new(),
        rule: String::new(),
        tenant: None,
        device_id: Some("a-1".into()),
        partition: partition(0),
        sequence,
        offset: "".into(),
        enqueued_at_us,
        content_type: None,
        properties: Vec::new(),
        body: Bytes::from(format!(r#"{{"value":{value}}}"#)),
    }
}

/// Puts a row into quarantine, or into `rejected`, under the mark of another stamp.
async fn put(world: &World, row: RawRow, kind: RawKind) {
    let table = match kind {
        RawKind::Rejected => world.lake.tenant(&alpha()).rejected(),
        RawKind::Quarantine => world.lake.stamp().quarantine(),
    };
    let snapshot = table.load().await.unwrap();
    let app = AppId::new(
        &StampId::parse("other").unwrap(),
        &identity(1),
        row.partition,
    );
    let sequence = snapshot.mark(&app).unwrap_or(0) + 1;
    let file = encode_raw(&[row], kind, &EncodeOptions::default())
        .unwrap()
        .remove(0);
    let file = table.put(&file).await.unwrap();
    table
        .append(&snapshot, vec![file], &[Mark { app, sequence }])
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_overflow_that_the_tenant_has_already_counts_as_returned() {
    let world = World::settled().await;
    let before = world.rows("readings").await;
    let row = kept(4, NOW_US + 4 * 20_000_000, "tenant_backlog", "1");
    put(&world, row, RawKind::Quarantine).await;

    let options = ReplayOptions {
        reasons: ["tenant_backlog".to_owned()].into(),
        ..ReplayOptions::all(ReplaySource::Quarantine)
    };
    let report = World::run(&world.lake, 1, &options).await.unwrap();

    assert_eq!(
        (report.read, report.already_there, report.returned),
        (1, 1, 0)
    );
    assert_eq!(world.rows("readings").await, before);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_service_may_still_write_waits() {
    let world = World::settled().await;
    let row = kept(EVENTS, NOW_US + EVENTS * 20_000_000, "out_of_range", "500");
    put(&world, row, RawKind::Rejected).await;

    let report = world.replay(ReplaySource::Rejected).await;

    assert_eq!((report.returned, report.waiting), (4, 1));
    assert!(
        !world
            .rows("readings")
            .await
            .keys()
            .any(|key| key.1 == EVENTS)
    );
}

#[tokio::test(start_paused = true)]
async fn events_of_an_earlier_hub_of_the_same_name_come_back_beside_those_of_the_new_one() {
    let world = World::settled().await;
    let created_at_ms = CREATED_AT_MS + 86_400_000_000;
    world.hub.recreate(created_at_ms);
    let later = created_at_ms * 1_000;
    publish(&world.hub, 0..EVENTS, later);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS - 1).await;
    running.stop().await;

    for source in [ReplaySource::Rejected, ReplaySource::Quarantine] {
        let replay = World::replay_on(&world.lake, 1, created_at_ms);
        let cancel = CancellationToken::new();
        let options = ReplayOptions::all(source);
        let report = replay
            .run(&options, &ReplayProgress::default(), &cancel)
            .await;
        assert_eq!(report.unwrap().returned, 8, "{source:?}");
    }
    let readings = world.rows("readings").await;
    assert_eq!(readings.len(), 2 * 12);
    assert!(readings.values().all(|&rows| rows == 1));
    let [from_readings, from_rollups] = world.totals().await;
    assert_eq!(from_rollups, from_readings);
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_whose_device_is_no_longer_the_tenants_stays_where_it_is() {
    let world = World::settled().await;
    let row = RawRow {
        device_id: Some("z-1".into()),
        ..kept(1, NOW_US, "out_of_range", "500")
    };
    put(&world, row, RawKind::Rejected).await;

    let report = world.replay(ReplaySource::Rejected).await;

    assert_eq!((report.returned, report.other_tenant), (4, 1));
}
