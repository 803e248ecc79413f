//! `stampworks fleet` with the provisioner's database: what is used, who is where, and places that are
//! given back. On SQLite and on PostgreSQL.

use std::path::Path;

use serde_json::Value;
use stamp_interop::Postgres;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Axis, Environment, Load};
use stamp_reservations::{Booked, Claim, Moved, Reservations, ReservationsConfig, Subject};

use crate::fleet::{Copied, by_stamp, good, run};

/// The example fleet, its database, and a file that says where that is.
struct World {
    copied: Copied,
    postgres: Option<Postgres>,
}

fn stamp(name: &str) -> StampId {
    StampId::parse(name).unwrap()
}

fn device(name: &str) -> Subject {
    Subject::Device(DeviceId::parse(name.into()).unwrap())
}

fn home(tenant: &str) -> Subject {
    Subject::Tenant(TenantId::parse(tenant).unwrap(), Environment::Production)
}

impl World {
    fn both() -> [Self; 2] {
        [None, Some(Postgres::start())].map(|postgres| {
            let copied = Copied::new();
            for stamp in ["weu-test", "weu-1", "weu-fabrikam", "eus-1"] {
                let url = format!("http://stampworks.{stamp}.svc.cluster.local:9464/metrics");
                copied.change("stamps.toml", &url, "http://127.0.0.1:1/metrics");
            }
            let world = Self { copied, postgres };
            let section = match &world.postgres {
                None => "url = \"sqlite:fleet.db\"".to_owned(),
                Some(postgres) => {
                    let (url, file) = (postgres.url(), postgres.password_file());
                    format!("url = {url:?}\npassword-file = {file:?}")
                }
            };
            // As in a provisioner's whole configuration: other keys are its own business.
            let text = format!("name = \"place-1\"\n[reservations]\n{section}\n");
            std::fs::create_dir(Path::new(world.copied.path()).join("place")).unwrap();
            world.copied.file("place/provision.toml", &text);
            world
        })
    }

    fn config(&self) -> ReservationsConfig {
        match &self.postgres {
            None => {
                let path = Path::new(self.copied.path()).join("place/fleet.db");
                ReservationsConfig::new(format!("sqlite:{}", path.display()))
            }
            Some(postgres) => ReservationsConfig {
                password_file: Some(postgres.password_file()),
                ..ReservationsConfig::new(postgres.url())
            },
        }
    }

    /// Contoso and three devices on weu-1, northwind and one device on eus-1.
    async fn booked(&self) -> Reservations {
        let door = Reservations::open(&self.config()).await.unwrap();
        let tenants = Load::ZERO.with(Axis::Tenants, 1);
        let devices = Load::ZERO.with(Axis::Devices, 1);
        for (subject, tenant, at, needs) in [
            (
                home("contoso"),
                "contoso",
                "weu-1",
                tenants.with(Axis::EventsPerSecond, 60),
            ),
            (home("northwind"), "northwind", "eus-1", tenants),
            (device("press-1"), "contoso", "weu-1", devices),
            (device("press-2"), "contoso", "weu-1", devices),
            (device("press-3"), "contoso", "weu-1", devices),
            (device("truck-1"), "northwind", "eus-1", devices),
        ] {
            let claim = Claim {
                subject,
                tenant: TenantId::parse(tenant).unwrap(),
                stamp: stamp(at),
                needs,
                limits: Axis::ALL
                    .into_iter()
                    .fold(Load::ZERO, |l, axis| l.with(axis, 1_000)),
            };
            let booked = door.book(&claim, 1_700_000_000_000_000).await.unwrap();
            assert!(matches!(booked, Booked::New(_)), "{booked:?}");
        }
        door
    }

    fn file(&self) -> String {
        format!("{}/place/provision.toml", self.copied.path())
    }

    /// `fleet COMMAND --reservations FILE`, with a catalogue where it takes one.
    fn args<'a>(&'a self, command: &'a str, file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec![command, "--reservations", file];
        if !["bookings", "release"].contains(&command) {
            args.extend(["--fleet", self.copied.path()]);
        }
        args.extend(more);
        args
    }

    fn good(&self, command: &str, more: &[&str]) -> String {
        good(&self.args(command, &self.file(), more))
    }

    fn json(&self, command: &str, more: &[&str]) -> Value {
        let said = self.good(command, &[more, &["--output", "json"]].concat());
        serde_json::from_str(&said).unwrap()
    }

    /// Refused with exit code 1: why.
    fn refused(&self, command: &str, more: &[&str]) -> String {
        let (code, said, errors) = run(&self.args(command, &self.file(), more));
        assert_eq!(code, Some(1), "{said}{errors}");
        errors
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_booked_is_what_is_used_and_where_tenants_are() {
    for world in World::both() {
        let _door = world.booked().await;
        let status = by_stamp(&world.good("status", &["--output", "json"]));
        let axis = |stamp: &str, axis: &str, what: &str| status[stamp]["axes"][axis][what].clone();
        assert_eq!(axis("weu-1", "devices", "used"), 3);
        assert_eq!(axis("weu-1", "devices", "free"), 100_000 - 3);
        assert_eq!(axis("weu-1", "devices", "source"), "booked");
        assert_eq!(axis("weu-1", "tenants", "free"), 39);
        assert_eq!(axis("weu-1", "events-per-second", "used"), 60);
        // The database knows every booking: nothing there is nothing, not unknown.
        assert_eq!(axis("weu-test", "devices", "used"), 0);

        // What the operator's file says counts before it, axis by axis.
        let usage = "[[stamps]]\nid = \"weu-1\"\ndevices = 40000\n";
        let usage = world.copied.file("usage", usage);
        let status = by_stamp(&world.good("status", &["--usage", &usage, "--output", "json"]));
        let devices = &status["weu-1"]["axes"]["devices"];
        assert_eq!(
            (&devices["used"], &devices["source"]),
            (&40_000.into(), &"usage file".into())
        );
        assert_eq!(status["weu-1"]["axes"]["tenants"]["source"], "booked");

        let plan = world.json("plan", &["--growth", "10%"]);
        let of = |plan: &Value| {
            let mut stamps = plan["stamps"].as_array().unwrap().iter();
            let weu = stamps.find(|s| s["stamp"] == "weu-1").unwrap();
            weu["fill-now"].as_f64().unwrap()
        };
        let both = world.json("plan", &["--growth", "10%", "--usage", &usage]);
        assert!(of(&plan) > 0.0 && of(&plan) < of(&both), "{plan}");

        for more in [&[][..], &["--device", "press-1"]] {
            let more = [&["--tenant", "contoso"], more].concat();
            let answer = &world.json("place", &more)[0];
            assert_eq!(answer["outcome"]["placed"]["stamp"], "weu-1", "{answer}");
            assert_eq!(answer["outcome"]["placed"]["why"], "stays", "{answer}");
        }
    }
}

/// A service that no longer knows a tenant puts its events into quarantine, so it may not forget one that is leaving.
#[tokio::test(flavor = "multi_thread")]
async fn overlays_have_the_tenants_that_are_booked_there_or_have_not_left_yet() {
    for world in World::both() {
        let door = world.booked().await;
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().to_str().unwrap();
        let reads_for = |stamp: &str, tenant: &str| {
            let config = out.path().join(format!("overlays/{stamp}/stamp.toml"));
            let text = std::fs::read_to_string(config).unwrap_or_default();
            text.contains(&format!("id = \"{tenant}\""))
        };
        let render = || world.good("render", &["--out", folder]);
        render();
        assert!(reads_for("weu-1", "contoso") && !reads_for("eus-1", "contoso"));
        assert!(reads_for("eus-1", "northwind") && !reads_for("weu-1", "northwind"));

        let limits = Axis::ALL
            .into_iter()
            .fold(Load::ZERO, |l, axis| l.with(axis, 1_000));
        let moved = door
            .begin_move(&home("contoso"), 1, &stamp("eus-1"), limits, 9)
            .await;
        assert!(matches!(moved, Ok(Moved::Done(_))), "{moved:?}");
        render();
        assert!(reads_for("weu-1", "contoso") && reads_for("eus-1", "contoso"));

        let release = ["--tenant", "contoso", "--stamp", "weu-1"];
        world.good(
            "release",
            &[&release[..], &["--even-with-devices"]].concat(),
        );
        render();
        assert!(!reads_for("weu-1", "contoso") && reads_for("eus-1", "contoso"));

        // What the operator's file says of a tenant counts before the bookings.
        let usage = "[[tenants]]\nid = \"northwind\"\nstamps = [\"weu-1\"]\n";
        let usage = world.copied.file("usage", usage);
        world.good("render", &["--out", folder, "--usage", &usage]);
        assert!(reads_for("weu-1", "northwind") && !reads_for("eus-1", "northwind"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_read_is_named_and_nothing_is_made() {
    let [sqlite, mut postgres] = World::both();
    let out = Path::new(sqlite.copied.path()).join("overlays");
    let render = ["--out", out.to_str().unwrap()];
    let (code, _, errors) = run(&sqlite.args("render", &sqlite.file(), &render));
    assert_eq!((code, out.exists()), (Some(3), false), "{errors}");
    let (code, _, errors) = run(&sqlite.args("status", &sqlite.file(), &[]));
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("reservations.url") && errors.contains("fleet.db"),
        "{errors}"
    );
    assert!(
        !Path::new(sqlite.copied.path())
            .join("place/fleet.db")
            .exists()
    );

    // Nobody has ever been booked in it.
    let errors = postgres.refused("bookings", &[]);
    assert!(errors.contains("bookings"), "{errors}");
    postgres.postgres.as_mut().unwrap().kill();
    let errors = postgres.refused("status", &[]);
    assert!(errors.contains("cannot be used now"), "{errors}");

    let wrong = sqlite.copied.file(
        "wrong.toml",
        "[reservations]\nurl = \"sqlite:a\"\nconections = 3\n",
    );
    let (code, _, errors) = run(&sqlite.args("bookings", &wrong, &[]));
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("conections"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bookings_are_found_by_tenant_stamp_and_device() {
    for world in World::both() {
        let door = world.booked().await;
        let limits = Load::ZERO.with(Axis::Devices, 9);
        let moved = door
            .begin_move(&device("press-3"), 1, &stamp("eus-1"), limits, 9)
            .await;
        assert!(matches!(moved, Ok(Moved::Done(_))), "{moved:?}");
        let names = |more: &[&str]| {
            let report = world.json("bookings", more);
            let name = |shown: &Value| match &shown["device"] {
                Value::Null => shown["tenant"].as_str().unwrap().to_owned(),
                device => device.as_str().unwrap().to_owned(),
            };
            let shown = report["bookings"].as_array().unwrap().iter().map(name);
            (shown.collect::<Vec<_>>().join(" "), report["more"] == true)
        };
        for (more, found) in [
            (&[][..], "contoso northwind"),
            (&["--tenant", "contoso"], "contoso press-1 press-2 press-3"),
            (&["--tenant", "contoso", "--stamp", "eus-1"], "press-3"),
            (&["--stamp", "weu-1"], "press-1 press-2 press-3 contoso"),
            (&["--device", "truck-1"], "truck-1"),
            (&["--device", "truck-9"], ""),
        ] {
            assert_eq!(names(more), (found.to_owned(), false), "{more:?}");
        }
        let few = names(&["--stamp", "weu-1", "--limit", "2"]);
        assert_eq!(few, ("press-1 press-2".to_owned(), true));
        let said = world.good("bookings", &["--device", "press-3"]);
        let row = "contoso  press-3  eus-1  weu-1    1970-01-01T00:00:00Z  1 devices";
        assert!(said.contains(row), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_last_place_is_given_back_only_when_its_devices_are_gone_or_it_is_said() {
    for world in World::both() {
        let door = world.booked().await;
        let release = ["--tenant", "contoso", "--stamp", "weu-1"];
        let why = world.refused("release", &release);
        assert!(
            why.contains("3 devices of contoso are booked on weu-1"),
            "{why}"
        );
        let elsewhere = world.refused("release", &["--tenant", "contoso", "--stamp", "eus-1"]);
        assert!(
            elsewhere.contains("not booked on eus-1, but on weu-1"),
            "{elsewhere}"
        );

        let stated = [&release[..], &["--even-with-devices"]].concat();
        let dry = world.json("release", &[&stated[..], &["--dry-run"]].concat());
        assert_eq!(
            (&dry["act"], &dry["done"]),
            (&"remove".into(), &false.into())
        );
        assert!(
            door.get(&home("contoso")).await.unwrap().is_some(),
            "it only said so"
        );
        let said = world.good("release", &stated);
        assert!(
            said.contains("contoso, production: its place on weu-1 is free"),
            "{said}"
        );
        assert_eq!(door.get(&home("contoso")).await.unwrap(), None);
        let again = world.refused("release", &stated);
        assert!(again.contains("contoso is booked nowhere"), "{again}");

        let said = world.good("release", &["--device", "truck-1"]);
        assert!(said.contains("device truck-1 of northwind"), "{said}");
        // Nobody is left there.
        world.good("release", &["--tenant", "northwind", "--stamp", "eus-1"]);
        let used = door.usage().await.unwrap();
        let eus = used.iter().find(|(id, _)| *id == stamp("eus-1")).unwrap();
        assert_eq!(eus.1, Load::ZERO);
    }
}

/// A tenant that was taken to another stamp is on both until somebody says that it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_ended_by_the_stamp_that_was_left_and_taken_back_by_the_other() {
    for world in World::both() {
        let door = world.booked().await;
        let limits = Axis::ALL
            .into_iter()
            .fold(Load::ZERO, |l, axis| l.with(axis, 1_000));
        for (subject, to) in [(home("northwind"), "weu-1"), (device("press-1"), "eus-1")] {
            let moved = door.begin_move(&subject, 1, &stamp(to), limits, 9).await;
            assert!(matches!(moved, Ok(Moved::Done(_))), "{moved:?}");
        }
        let why = world.refused("release", &["--tenant", "northwind", "--stamp", "eus-1"]);
        assert!(
            why.contains("1 devices of northwind are booked on eus-1"),
            "{why}"
        );
        world.good("release", &["--device", "truck-1"]);
        let ended = world.json("release", &["--tenant", "northwind", "--stamp", "eus-1"]);
        assert_eq!(
            (&ended["act"], &ended["freed"], &ended["stays"]),
            (&"end-move".into(), &"eus-1".into(), &"weu-1".into())
        );
        let now = door.get(&home("northwind")).await.unwrap().unwrap();
        assert_eq!((now.stamp, now.leaving), (stamp("weu-1"), None));

        let which = world.refused("release", &["--device", "press-1"]);
        assert!(which.contains("moves from weu-1 to eus-1"), "{which}");
        let undone = world.json("release", &["--device", "press-1", "--stamp", "eus-1"]);
        assert_eq!(
            (&undone["act"], &undone["stays"]),
            (&"undo-move".into(), &"weu-1".into())
        );
        let now = door.get(&device("press-1")).await.unwrap().unwrap();
        assert_eq!((now.stamp, now.leaving), (stamp("weu-1"), None));
    }
}
