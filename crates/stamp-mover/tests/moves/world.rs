//! Three hubs, a DPS, tables, and devices that register when they are rejected and send when they
//! are not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stamp_iothub::memory::{Hook, MemoryDps, MemoryIotHub, MemoryRequest, Verdict};
use stamp_iothub::{Attestation, DeviceRegistry as _, DeviceStatus, Enrollment, EnrollmentKind};
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_mover::{
    Clock, Doors, Journal, JournalError, MemorySightings, Mover, MoverError, MoverOptions,
    Observed, PeerPolicy, Plan, PlannedDevice, Report, ReportOptions, Request, Requests, Side,
    What,
};
use stamp_placement::device_move::{MovePolicy, Stage};
use stamp_resilience::NoObserver;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=";
pub(crate) const POLICY: MovePolicy = MovePolicy {
    keep_source_us: 30_000_000,
    straggler_after_us: 600_000_000,
};

pub(crate) fn stamp(text: &str) -> StampId {
    StampId::parse(text).unwrap()
}

fn side(text: &str) -> Side {
    Side {
        stamp: stamp(text),
        hub: format!("{text}.example"),
        registry_per_minute: 6_000,
        twin_reads_per_minute: 6_000,
    }
}

/// Everything outside of the mover. Clones are the same world.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) hubs: BTreeMap<StampId, MemoryIotHub>,
    pub(crate) dps: MemoryDps,
    pub(crate) sightings: MemorySightings,
    /// The hub that each device believes is its own.
    believes: Arc<Mutex<BTreeMap<String, String>>>,
    /// Devices that are switched off.
    pub(crate) dark: Arc<Mutex<Vec<String>>>,
    began: Instant,
    folder: Arc<tempfile::TempDir>,
    devices: Vec<String>,
}

impl World {
    /// So many devices, each enrolled by itself at the test stamp and living there.
    pub(crate) fn new(devices: usize) -> Self {
        let world = Self::empty(devices);
        let keys = Attestation::symmetric(KEY, KEY);
        for device in &world.devices {
            let enrollment = Enrollment::individual(device, Some(&keys));
            world.dps.enroll(&enrollment.pointed_to("test.example"));
            world.live_once(device);
        }
        world
    }

    /// So many devices of one group.
    pub(crate) fn of_group(devices: usize) -> Self {
        let world = Self::empty(devices);
        let record = serde_json::json!({
            "enrollmentGroupId": "line", "allocationPolicy": "static", "iotHubs": ["test.example"],
            "attestation": { "type": "symmetricKey",
                "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } },
        });
        world
            .dps
            .enroll(&Enrollment::parse(EnrollmentKind::Group, record).unwrap());
        world
            .devices
            .iter()
            .for_each(|device| world.live_once(device));
        world
    }

    fn empty(devices: usize) -> Self {
        let stamps = ["test", "prod-1", "prod-2"];
        let hub = |text: &&str| MemoryIotHub::new(&format!("{text}.example"));
        let hubs: Vec<MemoryIotHub> = stamps.iter().map(hub).collect();
        Self {
            dps: MemoryDps::new("dps.example", hubs.clone()),
            hubs: stamps.into_iter().map(stamp).zip(hubs).collect(),
            sightings: MemorySightings::default(),
            believes: Arc::default(),
            dark: Arc::default(),
            began: Instant::now(),
            folder: Arc::new(tempfile::tempdir().unwrap()),
            devices: (0..devices)
                .map(|number| format!("press-{number}"))
                .collect(),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        let began = self.began;
        Arc::new(move || 1_000_000 + i64::try_from(began.elapsed().as_micros()).unwrap())
    }

    pub(crate) fn hub(&self, text: &str) -> &MemoryIotHub {
        &self.hubs[&stamp(text)]
    }

    /// One moment of a device's life: it sends, or is rejected and registers.
    fn live_once(&self, device: &str) {
        if self.dark.lock().unwrap().iter().any(|dark| dark == device) {
            return;
        }
        let hub = self.believes.lock().unwrap().get(device).cloned();
        let known = self
            .hubs
            .iter()
            .find(|(_, known)| Some(known.name()) == hub.as_deref());
        match known {
            Some((stamp, known)) if known.admits(device) => {
                self.sightings.tell(stamp, device, (self.clock())());
            }
            _ => {
                let hub = self.dps.register(device);
                let mut believes = self.believes.lock().unwrap();
                match hub {
                    Some(hub) => believes.insert(device.to_owned(), hub),
                    None => believes.remove(device),
                };
            }
        }
    }

    /// All devices live until the end of the test, a moment a second.
    pub(crate) fn live(&self) {
        self.live_every(Duration::from_secs(1));
    }

    /// The same where the clock is not paused.
    pub(crate) fn live_fast(&self) {
        self.live_every(Duration::from_millis(20));
    }

    fn live_every(&self, moment: Duration) {
        let world = self.clone();
        let _detached = tokio::spawn(async move {
            loop {
                world
                    .devices
                    .iter()
                    .for_each(|device| world.live_once(device));
                wait(moment).await;
            }
        });
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.folder.path().join("move.jsonl")
    }

    /// Even devices go to the first production stamp, odd ones to the second.
    pub(crate) fn plan(&self) -> Plan {
        let planned = |(number, device): (usize, &String)| PlannedDevice {
            device: DeviceId::parse(device.as_str().into()).unwrap(),
            registration: device.clone(),
            tenant: TenantId::parse("contoso").unwrap(),
            target: stamp(if number % 2 == 0 { "prod-1" } else { "prod-2" }),
        };
        Plan {
            source: side("test"),
            targets: ["prod-1", "prod-2"]
                .map(|text| (stamp(text), side(text)))
                .into(),
            devices: self.devices.iter().enumerate().map(planned).collect(),
        }
    }

    pub(crate) fn begin(&self) -> Journal {
        let now_us = (self.clock())();
        Journal::create(&self.journal_path(), &self.plan(), POLICY, now_us).unwrap()
    }

    pub(crate) fn mover(
        &self,
        journal: Journal,
        change: impl FnOnce(&mut MoverOptions),
    ) -> Mover<MemoryIotHub, MemoryDps, MemorySightings> {
        self.mover_watched(journal, Arc::new(()), change)
    }

    pub(crate) fn mover_watched(
        &self,
        journal: Journal,
        observed: Arc<dyn Observed>,
        change: impl FnOnce(&mut MoverOptions),
    ) -> Mover<MemoryIotHub, MemoryDps, MemorySightings> {
        let observer: Arc<dyn stamp_resilience::Observer> = Arc::new(NoObserver);
        let doors = Doors::new(
            &journal.plan(),
            self.dps.clone(),
            self.hubs.clone(),
            self.sightings.clone(),
            &PeerPolicy::new(7),
            &observer,
        );
        let mut options = MoverOptions::new(self.clock());
        options.acts_max = 2;
        change(&mut options);
        Mover::new(doors.unwrap(), journal, options, observed)
    }

    pub(crate) fn requests_path(&self) -> PathBuf {
        self.folder.path().join("move.jsonl.requests")
    }

    /// Runs a journal to the end of what is due.
    pub(crate) async fn run(&self, journal: Journal) -> Report {
        let mut mover = self.mover(journal, |_| {});
        mover.run(&CancellationToken::new()).await.unwrap();
        report(&mover).await
    }

    /// Goes on with the journal on disk, as another process would.
    pub(crate) async fn resume(&self) -> Report {
        self.run(self.reopen().await).await
    }

    /// Opens the journal of a killed mover. A write that it had handed to the system may still be
    /// under way in this process, and holds the lock until it is done.
    pub(crate) async fn reopen(&self) -> Journal {
        for _ in 0..1_000 {
            match Journal::open(&self.journal_path()) {
                Err(JournalError::Busy(_)) => wait(Duration::from_millis(1)).await,
                opened => return opened.unwrap(),
            }
        }
        panic!("the journal stays locked");
    }

    pub(crate) fn ask(&self, what: What) {
        let request = Request {
            at_us: (self.clock())(),
            what,
            devices: Vec::new(),
        };
        Requests::of(&self.journal_path()).leave(&request).unwrap();
    }

    /// Every service shows its requests to `hook` first.
    pub(crate) fn set_hook(&self, hook: Option<&Hook>) {
        self.hubs
            .values()
            .for_each(|hub| hub.set_hook(hook.cloned()));
        self.dps.set_hook(hook.cloned());
    }

    /// Each device is let in at exactly one hub, and DPS says the same one.
    pub(crate) fn assert_each_is_in_one_place(&self, context: &str) {
        for device in &self.devices {
            let admits: Vec<&str> = self
                .hubs
                .values()
                .filter(|hub| hub.admits(device))
                .map(|hub| hub.name())
                .collect();
            assert_eq!(
                admits.len(),
                1,
                "{context}: {device} is let in at {admits:?}"
            );
        }
    }

    /// Each device ended, at its target or back at the source.
    pub(crate) fn assert_ended(&self, report: &Report, context: &str) {
        for device in &report.list {
            let name = device.device.as_str();
            let target = &self.hubs[&device.target];
            match device.stage {
                Stage::Erased => {
                    assert_eq!(self.hub("test").status(name), None, "{context}: {name}");
                    assert!(target.admits(name), "{context}: {name}");
                    let enrolled = self.dps.enrolled(name).unwrap();
                    assert_eq!(
                        enrolled.only_hub(),
                        Some(target.name()),
                        "{context}: {name}"
                    );
                }
                Stage::RolledBack => {
                    assert!(self.hub("test").admits(name), "{context}: {name}");
                    assert_ne!(
                        target.status(name),
                        Some(DeviceStatus::Enabled),
                        "{context}: {name}"
                    );
                }
                stage => panic!("{context}: {name} is {stage:?}: {:?}", device.why),
            }
        }
    }
}

pub(crate) async fn report(mover: &Mover<MemoryIotHub, MemoryDps, MemorySightings>) -> Report {
    let options = ReportOptions {
        audit: true,
        telemetry_before_us: Some(3_600_000_000),
    };
    // Devices that were taken back are made at the source when they register.
    wait(Duration::from_secs(5)).await;
    mover.report(options, &CancellationToken::new()).await
}

/// Counts requests, and does something with the one of this number.
pub(crate) struct AtRequest {
    seen: Arc<AtomicU64>,
    pub(crate) hook: Hook,
    pub(crate) reached: Arc<Notify>,
}

impl AtRequest {
    /// The request of this number, from 1, meets `verdict`; all others are done.
    pub(crate) fn number(number: u64, verdict: Verdict) -> Self {
        let (seen, reached) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let hook: Hook = {
            let (seen, reached) = (Arc::clone(&seen), Arc::clone(&reached));
            Arc::new(move |_: &MemoryRequest<'_>| {
                if seen.fetch_add(1, Ordering::SeqCst) + 1 != number {
                    return Verdict::Do;
                }
                reached.notify_one();
                verdict
            })
        };
        Self {
            seen,
            hook,
            reached,
        }
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }
}

/// Runs until the request of this number is reached, then drops everything, as a kill would.
pub(crate) async fn run_and_kill(world: &World, at: &AtRequest) -> Option<Result<(), MoverError>> {
    world.set_hook(Some(&at.hook));
    let mut mover = world.mover(world.begin(), |_| {});
    let cancel = CancellationToken::new();
    let ended = tokio::select! {
        ended = mover.run(&cancel) => Some(ended),
        () = at.reached.notified() => None,
    };
    drop(mover);
    world.set_hook(None);
    ended
}

/// The paused clock moves on.
pub(crate) async fn wait(length: Duration) {
    let _elapsed = tokio::time::timeout(length, std::future::pending::<()>()).await;
}
