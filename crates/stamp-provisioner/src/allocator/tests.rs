//! What was given away without the database, once the database is there.

use stamp_placement::catalogue::{Source, read};
use stamp_reservations::ReservationsConfig;
use stamp_resilience::{NoObserver, RetryPolicy};
use stamp_telemetry::Registry;

use super::*;

const HUBS: [&str; 2] = ["weu-1", "weu-2"];

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name.into()).unwrap()
}

fn stamp(name: &str) -> StampId {
    StampId::parse(name).unwrap()
}

fn subject(name: &str) -> Subject {
    Subject::Device(device(name))
}

fn given(name: &str, at: &str, at_us: i64) -> Given {
    Given {
        device: name.to_owned(),
        tenant: TenantId::parse("contoso").unwrap(),
        stamp: stamp(at),
        at_us,
    }
}

fn registration(name: &str, hubs: &[&str]) -> Registration {
    Registration {
        device: device(name),
        current_hub: None,
        linked_hubs: hubs
            .iter()
            .map(|stamp| format!("{stamp}.azure-devices.net"))
            .collect(),
        enrolled_tenant: None,
        enrolled_environment: None,
        initial_twin: serde_json::Map::new(),
    }
}

/// A database with contoso's home on weu-1, and so many devices on each stamp, all booked at time 10.
struct World {
    folder: tempfile::TempDir,
    door: Reservations,
}

impl World {
    async fn with(booked: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("fleet.db").display());
        let door = Reservations::open(&ReservationsConfig::new(url))
            .await
            .unwrap();
        let tenant = TenantId::parse("contoso").unwrap();
        let home = Subject::Tenant(tenant.clone(), Environment::Production);
        let devices = booked.iter().map(|(name, at)| (subject(name), *at));
        for (subject, at) in std::iter::once((home, "weu-1")).chain(devices) {
            let claim = Claim {
                subject,
                tenant: tenant.clone(),
                stamp: stamp(at),
                needs: decide::device_books(),
                limits: Load::ZERO.with(Axis::Devices, 1_000),
            };
            door.book(&claim, 10).await.unwrap();
        }
        Self { folder, door }
    }

    /// A provisioner whose journal has these, on stamps with room for two devices.
    fn allocator(&self, lines: &[Given]) -> Allocator {
        let (mut journal, _) = Journal::open(&self.folder.path().join("reserve.jsonl")).unwrap();
        for line in lines {
            journal.add(line).unwrap();
        }
        let text = crate::tests::catalogue(&HUBS.map(|id| (id, 2)));
        let (name, text) = ("fleet.toml", text.as_str());
        let policy = RetryPolicy::reservations();
        let metrics = ProvisionMetrics::new(&Registry::new(), &stamp("here")).unwrap();
        Allocator::new(AllocatorParts {
            fleet: read(&[Source { name, text }]).unwrap().fleet,
            door: self.door.clone(),
            peer: Peer::new("reservations", policy, 7, Arc::new(NoObserver)).unwrap(),
            part: Part::new(0.5, 1),
            journal: Some((journal, lines.to_vec())),
            metrics,
            clock: Arc::new(|| 30),
            stop: CancellationToken::new(),
        })
    }

    async fn booking(&self, name: &str) -> (String, Option<String>) {
        let booking = self.door.get(&subject(name)).await.unwrap().unwrap();
        let leaving = booking.leaving.map(|stamp| stamp.to_string());
        (booking.stamp.to_string(), leaving)
    }

    async fn used(&self) -> Vec<u64> {
        let used = self.door.usage().await.unwrap();
        used.iter().map(|(_, load)| load[Axis::Devices]).collect()
    }
}

fn at(stamp: &str, leaving: Option<&str>) -> (String, Option<String>) {
    (stamp.to_owned(), leaving.map(str::to_owned))
}

#[tokio::test]
async fn a_device_that_was_given_a_place_keeps_it_though_the_stamp_is_full_and_nothing_is_settled()
{
    let world = World::with(&[("press-1", "weu-1")]).await;
    let allocator = world.allocator(&[given("press-9", "weu-1", 20)]);
    for _ in 0..2 {
        let placed = allocator.allocate(&registration("press-9", &HUBS)).await;
        assert_eq!(placed.unwrap().stamp, stamp("weu-1"));
        assert_eq!(world.used().await, [3]);
    }
    let full = allocator.allocate(&registration("press-8", &HUBS)).await;
    assert_eq!(full.unwrap_err().reason, Reason::NoCapacity);
    assert!(allocator.settle().await);
    assert_eq!(world.used().await, [3]);
}

#[tokio::test]
async fn a_move_that_was_answered_without_the_database_takes_both_stamps_when_it_is_back() {
    let world = World::with(&[("press-1", "weu-1")]).await;
    let allocator = world.allocator(&[given("press-1", "weu-2", 20)]);
    for _ in 0..2 {
        assert!(allocator.settle().await);
        assert_eq!(world.booking("press-1").await, at("weu-2", Some("weu-1")));
        assert_eq!(world.used().await, [2, 1]);
    }
}

#[tokio::test]
async fn the_way_back_that_was_answered_without_the_database_takes_one_stamp_again() {
    let world = World::with(&[("press-1", "weu-1")]).await;
    let limits = Load::ZERO.with(Axis::Devices, 9);
    let moved = world
        .door
        .begin_move(&subject("press-1"), 1, &stamp("weu-2"), limits, 15)
        .await;
    assert!(matches!(moved, Ok(Moved::Done(_))), "{moved:?}");
    let allocator = world.allocator(&[given("press-1", "weu-1", 20)]);
    assert!(allocator.settle().await);
    assert_eq!(world.booking("press-1").await, at("weu-1", None));
    assert_eq!(world.used().await, [2, 0]);
}

#[tokio::test]
async fn what_was_booked_after_it_was_given_away_stays_where_it_was_booked() {
    let world = World::with(&[("press-1", "weu-1")]).await;
    let allocator = world.allocator(&[given("press-1", "weu-2", 5)]);
    assert!(allocator.settle().await);
    assert_eq!(world.booking("press-1").await, at("weu-1", None));
}

/// Two lines of one device: the first could not be taken back when the disk failed.
#[tokio::test]
async fn a_device_that_is_in_the_journal_twice_counts_once() {
    let world = World::with(&[]).await;
    let lines = [given("press-1", "weu-1", 20), given("press-1", "weu-2", 21)];
    let allocator = world.allocator(&lines);
    assert!(allocator.settle().await);
    assert_eq!(world.booking("press-1").await, at("weu-2", None));
    assert!(allocator.state().reserve.used_ratio() < f64::EPSILON);
}
