//! `stampworks device serve`: the real process against emulated services, killed between orders and
//! acts, paused over a restart, told wrong things; and, with it, moves that go by a provisioner's bookings.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Axis, Load};
use stamp_reservations::{Booked, Claim, Reservations, ReservationsConfig, Subject};
use tokio::time::interval;

use crate::device::{Azure, DEVICES, lines};
use crate::process::{Service, http_get};
use crate::stamp::until;
use crate::support::PROCESS_MAX;

const KEY: &str = "a-key-of-these-tests";

/// The configuration of a service of the emulated fleet.
fn config(azure: &Azure) -> PathBuf {
    fs::write(azure.path("keys"), KEY).unwrap();
    let path = azure.path("mover.toml");
    let text = "name = \"mover-1\"\nfleet = \"fleet.toml\"\nservices = \"services.toml\"\nstate = \"moves\"\n\
        listen = \"127.0.0.1:0\"\naccess.keys-file = \"keys\"\nmoves.again-every = \"200ms\"\n\
        telemetry = { listen = \"127.0.0.1:0\", log-format = \"text\" }\n";
    fs::write(&path, text).unwrap();
    path
}

fn start(azure: &Azure) -> (Service, String) {
    let mut service = Service::moves(&config(azure));
    service.wait_for("serving");
    let address = service.said(" address=");
    (service, address)
}

fn ask(address: &str, head: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PROCESS_MAX)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{head} HTTP/1.1\r\nhost: here\r\nconnection: close\r\nx-functions-key: {KEY}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn order() -> String {
    let ids: Vec<String> = (0..DEVICES).map(|number| format!("d-{number}")).collect();
    json!({ "id": "line-7", "from": "weu-test", "to": "weu-1", "devices": ids,
        "options": { "keep-source": "1s", "look-every": "200ms", "acts-max": 2 } })
    .to_string()
}

async fn until_it_is(address: &str, state: &str) -> Value {
    until(state, async || {
        ask(address, "GET /v1/moves/line-7", "").1["state"] == state
    })
    .await;
    ask(address, "GET /v1/moves/line-7", "").1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_over_and_over_goes_on_by_itself_and_ends_with_a_whole_report() {
    let azure = Azure::start().await;
    let mut consumer = azure.consumer();
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let (mut service, mut address) = start(&azure);
    assert!(http_get(&service.endpoints(), "/readyz").contains("200"));
    assert_eq!(ask(&address, "POST /v1/moves", &order()).0, 201);
    let journal = azure.path("moves/line-7.jsonl");
    for more in [2, 6, 10, 14, 18] {
        let mut ticks = interval(Duration::from_millis(20));
        // A line for the header and each device, then two or more an act.
        while lines(&journal) < 2 + DEVICES + more {
            ticks.tick().await;
        }
        service.signal("KILL");
        service.ended();
        (service, address) = start(&azure);
        // Who did not get the answer asks again, and gets the same move.
        assert_eq!(ask(&address, "POST /v1/moves", &order()).0, 200);
    }
    let ended = until_it_is(&address, "ended").await;
    let report = &ended["report"];
    assert_eq!(report["verdict"], "complete", "{ended}");
    assert_eq!(report["moved"], DEVICES);
    assert_eq!(
        (&report["before"], &report["after"]),
        (&json!(DEVICES), &json!(DEVICES))
    );
    for device in ended["list"].as_array().unwrap() {
        assert!(
            device["telemetry"]["rows"].as_u64().unwrap() > 0,
            "{device}"
        );
        assert_eq!(
            (&device["at-source"], &device["at-target"]),
            (&json!("absent"), &json!("enabled"))
        );
    }
    assert_eq!(azure.is_at(&azure.prod, "enabled"), DEVICES);
    let ended = service.metric("stamp_mover_moves", &[("state", "ended")]);
    assert!((ended - 1.0).abs() < f64::EPSILON, "{ended}");
    let whole = fs::read_to_string(azure.path("moves/line-7.report.json")).unwrap();
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["is-final"], true);
    service.stop();
    assert!(consumer.is_running());
    consumer.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_when_the_service_is_killed_and_started_again() {
    let azure = Azure::start().await;
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let (mut service, address) = start(&azure);
    // No service writes the production stamp's tables: nobody is seen there, and none ends.
    assert_eq!(ask(&address, "POST /v1/moves", &order()).0, 201);
    assert_eq!(ask(&address, "POST /v1/moves/line-7/pause", "").0, 202);
    // Killed at once: what was answered is on the disk, taken in or not.
    service.signal("KILL");
    service.ended();
    let (mut service, address) = start(&azure);
    let paused = until_it_is(&address, "paused").await;
    assert_eq!(paused["paused"], DEVICES);
    // One folder, one process.
    let mut second = Service::moves(&config(&azure));
    second.wait_for("another process has the moves of");
    assert_eq!(second.ended().0.code(), Some(1));
    service.signal("TERM");
    assert_eq!(service.ended().0.code(), Some(0));
    let (service, address) = start(&azure);
    until_it_is(&address, "paused").await;
    assert_eq!(ask(&address, "POST /v1/moves/line-7/roll-back", "").0, 202);
    let ended = until_it_is(&address, "ended").await;
    assert_eq!(ended["report"]["taken-back"], DEVICES, "{ended}");
    assert_eq!(ended["report"]["verdict"], "complete");
    assert_eq!(azure.is_at(&azure.test, "enabled"), DEVICES);
    service.stop();
}

impl Azure {
    /// Books an amount on the production stamp, as a provisioner would in its database, `fleet.db`.
    async fn book(&self, axis: Axis, amount: u64) {
        let url = format!("sqlite:{}", self.path("fleet.db").display());
        let door = Reservations::open(&ReservationsConfig::new(url))
            .await
            .unwrap();
        let claim = Claim {
            subject: Subject::Device(DeviceId::parse(format!("of-{amount}").into()).unwrap()),
            tenant: TenantId::parse("contoso").unwrap(),
            stamp: StampId::parse("weu-1").unwrap(),
            needs: Load::ZERO.with(axis, amount),
            limits: Axis::ALL.into_iter().fold(Load::ZERO, |limits, axis| {
                limits.with(axis, u64::from(u32::MAX))
            }),
        };
        let booked = door.book(&claim, 1_700_000_000_000_000).await.unwrap();
        assert!(matches!(booked, Booked::New(_)), "{booked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_by_placement_goes_by_what_is_booked() {
    let azure = Azure::start().await;
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let ran = |args: &[&str]| tokio::task::block_in_place(|| azure.ran(args));
    let dry = ["move", "--from", "weu-test", "--place", "--dry-run", "d-0"];
    let booked = [&dry[..], &["--reservations", "provision.toml"]].concat();
    fs::write(
        azure.path("provision.toml"),
        "reservations.url = \"sqlite:fleet.db\"",
    )
    .unwrap();

    let (code, _, errors) = ran(&booked);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("reservations.url"), "{errors}");

    azure.book(Axis::Devices, 1).await;
    let (code, said, errors) = ran(&booked);
    assert_eq!(code, Some(0), "{said}{errors}");
    // What ten units of S3 hold, and what else is booked there.
    azure.book(Axis::Devices, 1_000_000 - 1).await;
    let (code, said, errors) = ran(&booked);
    assert_eq!(code, Some(1), "{said}{errors}");
    assert!(errors.contains("no stamp has room"), "{errors}");
    let (code, said, _) = ran(&dry);
    assert_eq!(
        code,
        Some(0),
        "nothing is booked when nobody is asked: {said}"
    );
    let usage = "[[stamps]]\nid = \"weu-1\"\ndevices = 5\n";
    fs::write(azure.path("usage.toml"), usage).unwrap();
    let (code, said, errors) = ran(&[&booked[..], &["--usage", "usage.toml"]].concat());
    assert_eq!(code, Some(0), "the operator knows better: {said}{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_by_placement_goes_by_what_is_booked_and_waits_for_the_database() {
    let azure = Azure::start().await;
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let path = config(&azure);
    let section = "[reservations]\nurl = \"sqlite:fleet.db\"\n";
    let text = fs::read_to_string(&path).unwrap() + section;
    fs::write(&path, text).unwrap();
    let mut service = Service::moves(&path);
    service.wait_for("serving");
    let address = service.said(" address=");
    let dry =
        json!({ "id": "line-7", "from": "weu-test", "place": "production", "devices": ["d-0"],
        "dry-run": true })
        .to_string();
    let order = || ask(&address, "POST /v1/moves", &dry);

    let (status, said) = order();
    assert_eq!(
        (status, &said["code"]),
        (503, &"unavailable".into()),
        "{said}"
    );
    assert!(
        said["message"].to_string().contains("reservations.url"),
        "{said}"
    );

    azure.book(Axis::Devices, 1).await;
    let (status, said) = order();
    assert_eq!(status, 200, "{said}");
    azure.book(Axis::Devices, 1_000_000 - 1).await;
    let (status, said) = order();
    assert_eq!((status, &said["code"]), (409, &"refused".into()), "{said}");
    let problems = said["problems"].to_string();
    assert!(problems.contains("no stamp has room"), "{said}");
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_cannot_use_ends_with_the_code_that_says_so() {
    let azure = Azure::start().await;
    let file = config(&azure);
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stampworks"));
        command.args(["device", "serve", "--config"]);
        let output = command.arg(&file).args(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    };
    let (code, said, errors) = run(&["--check-config"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "mover-1: 2 stamps, 1 tenants, all good\n"),
        "{errors}"
    );
    let (code, printed, _) = run(&["--print-config"]);
    assert!(
        code == 0 && printed.contains("at-once-max = 4"),
        "{printed}"
    );
    assert!(!printed.contains(KEY));
    for (name, text, told) in [
        ("keys", "short", "access.keys-file"),
        ("services.toml", "[dps]\nhots = 1\n", "services.toml"),
        ("fleet.toml", "version = 1\nstamp = 1\n", "fleet.toml:2:1"),
    ] {
        let good = fs::read_to_string(azure.path(name)).unwrap();
        fs::write(azure.path(name), text).unwrap();
        for more in [&[][..], &["--check-config"]] {
            let (code, _, errors) = run(more);
            assert!(
                code == 3 && errors.contains(told),
                "{name} {code}: {errors}"
            );
        }
        fs::write(azure.path(name), good).unwrap();
    }
    assert!(!azure.path("moves").exists(), "nothing was begun");
}
