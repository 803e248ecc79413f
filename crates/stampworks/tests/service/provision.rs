//! `stampworks provision` as a process: killed, stopped, started without its database, told wrong
//! things.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::sync_channel;

use stamp_interop::Postgres;

use crate::process::{Service, http_get};
use crate::support::PROCESS_MAX;

const KEY: &str = "a-key-of-these-tests";

/// A fleet of one stamp, its database, and one folder for each process.
pub(super) struct World {
    folder: tempfile::TempDir,
    postgres: Option<Postgres>,
}

impl World {
    pub(super) fn new(devices: u64, postgres: Option<Postgres>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder, postgres };
        world.publish(devices);
        std::fs::write(world.path("keys"), KEY).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn publish(&self, devices: u64) {
        let text = format!(
            r#"
version = 1
[[stamps]]
id = "eu-1"
region = "westeurope"
geography = "europe"
kind = "shared"
environment = "production"
ring = "general"
version = "0.1.0"
storage-root = "az://eu1/telemetry"
iot-hub = {{ name = "eu-1.azure-devices.net", tier = "S1", units = 1 }}
capacity = {{ devices = {devices}, tenants = 5 }}
[stamps.event-hub]
namespace = "eu-1.servicebus.windows.net"
hub = "telemetry"
tier = "standard"
throughput-units = 1
partitions = 1
[[tenants]]
id = "contoso"
geographies = ["europe"]
tier = "standard"
schema = "schema.toml"
devices = ["press-*"]
"#
        );
        std::fs::write(self.path("fleet.toml"), text).unwrap();
    }

    /// The configuration of one process.
    fn config(&self, name: &str) -> PathBuf {
        let mut text = format!(
            "name = \"{name}\"\nfleet = \"fleet.toml\"\nlisten = \"127.0.0.1:0\"\n\
             access.keys-file = \"keys\"\nresilience.look-every = \"100ms\"\n\
             telemetry = {{ listen = \"127.0.0.1:0\", log-format = \"text\" }}\n\
             reserve = {{ share = 0.2, replicas = 2, journal = \"{name}.jsonl\" }}\n"
        );
        match &self.postgres {
            None => text.push_str("reservations.url = \"sqlite:fleet.db\"\n"),
            Some(postgres) => {
                let (url, file) = (postgres.url(), postgres.password_file());
                writeln!(
                    text,
                    "reservations = {{ url = {url:?}, password-file = {file:?} }}"
                )
                .unwrap();
            }
        }
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn start(&self, name: &str) -> (Service, String) {
        let mut service = Service::provision(&self.config(name));
        service.wait_for("serving");
        let address = service.said(" address=");
        (service, address)
    }
}

/// One request; `None` when the process is gone in the middle.
fn ask(address: &str, head: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PROCESS_MAX)).ok()?;
    let length = body.len();
    let sent = write!(
        stream,
        "{head} HTTP/1.1\r\nhost: here\r\nconnection: close\r\nx-functions-key: {KEY}\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    sent.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

pub(super) fn allocate(address: &str, device: &str) -> Option<(u16, String)> {
    let body = format!(
        "{{\"enrollmentGroup\":{{}},\"deviceRuntimeContext\":{{\"registrationId\":\"{device}\"}},\
         \"linkedHubs\":[\"eu-1.azure-devices.net\"]}}"
    );
    ask(address, "POST /v1/allocate", &body)
}

fn origin(answer: &str) -> &str {
    let found = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-stamp-origin: "));
    found.unwrap_or_default()
}

/// Two processes are asked side by side, and one of them is killed in the middle.
fn one_of_two_is_killed(world: &World) {
    let (mut killed, first) = world.start("killed");
    let (other, second) = world.start("other");
    let (sender, answered) = sync_channel(1_000);
    let callers: Vec<_> = [(first, "a"), (second.clone(), "b")]
        .into_iter()
        .flat_map(|(address, name)| [(address.clone(), name, "x"), (address, name, "y")])
        .map(|(address, name, half)| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for number in 0..60 {
                    let device = format!("press-{name}-{half}-{number}");
                    // A killed process answers nobody: its callers are done.
                    let Some((status, _)) = allocate(&address, &device) else {
                        return;
                    };
                    sender.send((device, status)).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    let mut statuses = BTreeMap::new();
    for (device, status) in answered.iter().take(40) {
        statuses.insert(device, status);
    }
    killed.signal("KILL");
    killed.ended();
    statuses.extend(answered.iter());
    callers
        .into_iter()
        .for_each(|caller| caller.join().unwrap());

    let (mut placed, mut refused) = (0, 0);
    for (device, status) in &statuses {
        let found = ask(&second, &format!("GET /v1/devices/{device}/stamp"), "");
        let (there, answer) = found.unwrap();
        match status {
            200 => {
                assert_eq!(there, 200, "{device} was answered and is lost: {answer}");
                placed += 1;
            }
            // The stamp is full, or the lock was taken for too long: refused is not placed.
            409 | 503 => {
                assert_eq!(there, 404, "{device} was refused and is there: {answer}");
                refused += 1;
            }
            other => panic!("{device}: {other}"),
        }
    }
    // 80 less what is kept back; at most one a caller was booked and not told.
    assert!(
        (60..=64).contains(&placed),
        "{placed} placed, {refused} refused"
    );
    let full = allocate(&second, "press-late").unwrap();
    assert_eq!(full.0, 409, "{}", full.1);
    other.stop();
}

/// Fault scenario 52.
#[test]
fn what_a_killed_provisioner_answered_is_kept_and_no_place_is_given_twice_on_postgresql() {
    one_of_two_is_killed(&World::new(80, Some(Postgres::start())));
}

/// Fault scenario 52.
#[test]
fn what_a_killed_provisioner_answered_is_kept_and_no_place_is_given_twice_on_sqlite() {
    one_of_two_is_killed(&World::new(80, None));
}

#[test]
fn what_was_given_from_the_reserve_outlives_a_kill() {
    let mut world = World::new(80, Some(Postgres::start()));
    let (mut service, address) = world.start("one");
    assert_eq!(origin(&allocate(&address, "press-0").unwrap().1), "booked");
    world.postgres.as_mut().unwrap().kill();
    // A fifth of 80, for two.
    for number in 1..=8 {
        let (_, answer) = allocate(&address, &format!("press-{number}")).unwrap();
        assert_eq!(origin(&answer), "reserve", "{answer}");
    }
    assert_eq!(allocate(&address, "press-9").unwrap().0, 503);
    service.signal("KILL");
    service.ended();

    // Started again without its database it waits, and says so.
    let mut service = Service::provision(&world.config("one"));
    service.wait_for("waiting for the database");
    let ready = http_get(&service.endpoints(), "/readyz");
    assert!(
        ready.contains("503") && ready.contains("database was not reached"),
        "{ready}"
    );
    world.postgres.as_mut().unwrap().restart();
    service.wait_for("serving");
    let address = service.said(" address=");
    assert!(http_get(&service.endpoints(), "/readyz").contains("200"));
    for number in 0..=8 {
        let (_, answer) = allocate(&address, &format!("press-{number}")).unwrap();
        assert_eq!(origin(&answer), "kept", "{answer}");
    }
    service.stop();
}

/// Fault scenario 53.
#[test]
fn a_hangup_has_the_files_read_again_and_a_bad_catalogue_changes_nothing() {
    let world = World::new(2, None);
    let (mut service, address) = world.start("one");
    // Two devices, less a fifth kept back, rounded down to nothing.
    for (device, status) in [("press-1", 200), ("press-2", 200), ("press-3", 409)] {
        assert_eq!(allocate(&address, device).unwrap().0, status, "{device}");
    }
    std::fs::write(world.path("fleet.toml"), "version = 1\nstamp = 1\n").unwrap();
    service.signal("HUP");
    service.wait_for("the catalogue has an error");
    service.wait_for("the catalogue before stays in force");
    assert_eq!(allocate(&address, "press-2").unwrap().0, 200);
    assert!(
        service
            .metric("stamp_catalogue_current", &[("stamp", "one")])
            .abs()
            < f64::EPSILON
    );
    world.publish(3);
    service.signal("HUP");
    service.wait_for("the catalogue was read again");
    assert_eq!(allocate(&address, "press-3").unwrap().0, 200);
    service.stop();
}

#[test]
fn what_cannot_be_used_ends_with_the_code_that_says_so() {
    let mut world = World::new(2, None);
    let run = |config: &PathBuf, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stampworks"));
        let output = command
            .args(["provision", "--config"])
            .arg(config)
            .args(more)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let config = world.config("one");
    let (code, out, _) = run(&config, &["--check-config"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "one: 1 stamps, 1 tenants, all good\n")
    );
    let (code, printed, _) = run(&config, &["--print-config"]);
    assert!(
        code == 0 && printed.contains("connections-max = 256"),
        "{printed}"
    );
    assert!(!printed.contains(KEY));

    std::fs::write(world.path("keys"), "short").unwrap();
    let (code, _, said) = run(&config, &[]);
    assert!(
        code == 3 && said.contains("access.keys-file"),
        "{code}: {said}"
    );
    std::fs::write(world.path("keys"), KEY).unwrap();
    std::fs::write(world.path("one.jsonl"), "not a device\n").unwrap();
    let (code, _, said) = run(&config, &[]);
    assert!(code == 1 && said.contains("line 1"), "{code}: {said}");
    std::fs::remove_file(world.path("one.jsonl")).unwrap();
    std::fs::write(world.path("fleet.toml"), "version = 1\nstamp = 1\n").unwrap();
    for more in [&[][..], &["--check-config"]] {
        let (code, _, said) = run(&config, more);
        assert!(
            code == 3 && said.contains("fleet.toml:2:1"),
            "{code}: {said}"
        );
    }
    world.publish(2);
    world.postgres = Some(Postgres::start());
    let config = world.config("one");
    let text = std::fs::read_to_string(&config).unwrap();
    let wrong = text.replace(
        world
            .postgres
            .as_ref()
            .unwrap()
            .password_file()
            .to_str()
            .unwrap(),
        "keys",
    );
    std::fs::write(&config, wrong).unwrap();
    let (code, _, said) = run(&config, &[]);
    assert!(
        code == 4 && said.contains("access was refused"),
        "{code}: {said}"
    );
}
