//! `stampworks device`: the real process against emulated services, with devices that register and
//! send over HTTPS as they would, and a real consumer of the target stamp; killed over and over.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use stamp_emulator::{
    Authority, DpsConfig, DpsEmulator, EventHubsEmulator, IotHubConfig, IotHubEmulator, LinkedHub,
    Listen, Routing,
};
use stamp_interop::{Look, status_page};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::interval;

use crate::process::Service;
use crate::stamp::{EAGER, SOON, until};
use crate::status_page::{GLANCE, Guarded, Page, assert_looked_at, pictures};
use crate::support::{emulator, write_config};

const KEY: &str = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=";
const SCOPE: &str = "0ne000A247E";
pub(super) const DEVICES: usize = 6;

/// A test hub, a production hub whose events go into an Event Hub, and a DPS.
pub(super) struct Azure {
    pub(super) test: IotHubEmulator,
    pub(super) prod: IotHubEmulator,
    dps: DpsEmulator,
    events: EventHubsEmulator,
    folder: tempfile::TempDir,
}

fn listen(last: u8) -> Listen {
    Listen {
        ip: IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)),
        https: Some(0),
        http: Some(0),
        mqtts: None,
        ..Listen::default()
    }
}

impl Azure {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let events = emulator(2).await;
        let authority = Arc::new(Authority::generate().unwrap());
        authority.write_pem(&folder.path().join("ca.pem")).unwrap();
        let test = IotHubConfig::new(listen(2), Arc::clone(&authority));
        let routing = Routing {
            built_in: events.hub("telemetry"),
            ..Routing::default()
        };
        let prod = IotHubConfig {
            routing,
            ..IotHubConfig::new(listen(3), Arc::clone(&authority))
        };
        let test = IotHubEmulator::start(test).await.unwrap();
        let prod = IotHubEmulator::start(prod).await.unwrap();
        let dps = DpsEmulator::start(DpsConfig {
            linked_hubs: vec![LinkedHub::new(test.hub()), LinkedHub::new(prod.hub())],
            ..DpsConfig::new(listen(4), authority, SCOPE)
        });
        let azure = Self {
            test,
            prod,
            dps: dps.await.unwrap(),
            events,
            folder,
        };
        azure.write_files();
        azure
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The catalogue, and how its services are reached.
    fn write_files(&self) {
        let stamp = |id: &str, environment: &str, hub: &str| {
            format!(
                "[[stamps]]\nid = \"{id}\"\nregion = \"westeurope\"\ngeography = \"europe\"\nkind = \"shared\"\n\
                environment = \"{environment}\"\nring = \"general\"\nversion = \"1\"\n\
                storage-root = \"file://{}\"\nmetrics = [\"http://127.0.0.1:1/metrics\"]\n\
                [stamps.iot-hub]\nname = \"{hub}\"\ntier = \"S3\"\nunits = 10\n\
                [stamps.event-hub]\nnamespace = \"{id}.example\"\nhub = \"telemetry\"\ntier = \"standard\"\n\
                throughput-units = 1\npartitions = 2\n[stamps.capacity]\ntenants = 5\n",
                self.path(id).display()
            )
        };
        let text = format!(
            "version = 1\n[fleet]\nimage = \"i\"\n{}{}[[tenants]]\nid = \"contoso\"\n\
            geographies = [\"europe\"]\ntier = \"gold\"\nschema = \"contoso.toml\"\ndevices = [\"d-*\"]\n",
            stamp("weu-test", "test", self.test.hub().host_name()),
            stamp("weu-1", "production", self.prod.hub().host_name()),
        );
        fs::write(self.path("fleet.toml"), text).unwrap();
        fs::create_dir(self.path("weu-1")).unwrap();
        fs::create_dir(self.path("weu-test")).unwrap();
        let mut services = String::new();
        for (section, connection_string) in [
            ("dps", self.dps.connection_string()),
            (
                "stamps.weu-test.iot-hub",
                self.test.hub().connection_string(),
            ),
            ("stamps.weu-1.iot-hub", self.prod.hub().connection_string()),
        ] {
            fs::write(self.path(&format!("{section}.txt")), connection_string).unwrap();
            services += &format!(
                "[{section}]\nconnection-string-file = \"{section}.txt\"\nextra-ca-file = \"ca.pem\"\n"
            );
        }
        fs::write(self.path("services.toml"), services).unwrap();
    }

    /// The real service of the production stamp.
    pub(super) fn consumer(&self) -> Service {
        let folder = self.path("consumer");
        fs::create_dir(&folder).unwrap();
        let store = format!("url = \"file://{}\"", self.path("weu-1").display());
        let endpoint = format!("amqp://{}", self.events.address());
        let config = write_config(
            &folder,
            &endpoint,
            &store,
            &format!("[consumer]\n{EAGER}{SOON}"),
        );
        Service::start(&config, &[])
    }

    fn device(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stampworks"));
        command
            .current_dir(self.folder.path())
            .arg("device")
            .args(args);
        command
    }

    /// Exit code, stdout and stderr.
    pub(super) fn ran(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let out = self.device(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    }

    /// Each device is enrolled by itself at the test hub, and lives until the end of the test.
    pub(super) fn switch_on(&self) {
        for number in 0..DEVICES {
            let id = format!("d-{number}");
            let record = json!({
                "allocationPolicy": "static", "iotHubs": [self.test.hub().host_name()],
                "attestation": { "type": "symmetricKey",
                    "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } },
            });
            self.dps.put_enrollment(&id, &record).unwrap();
            let hubs = [self.test.hub(), self.prod.hub()];
            let hubs = hubs.map(|hub| (hub.host_name().to_owned(), hub.addresses().http.unwrap()));
            let device = Device {
                id,
                dps: self.dps.addresses().http.unwrap(),
                hubs: BTreeMap::from(hubs),
            };
            let _detached = tokio::spawn(device.live());
        }
    }

    pub(super) fn is_at(&self, hub: &IotHubEmulator, status: &str) -> usize {
        let at = |number: &usize| {
            let device = hub.hub().device(&format!("d-{number}"));
            device.is_some_and(|device| device["status"] == status)
        };
        (0..DEVICES).filter(at).count()
    }
}

/// A device that holds nothing but its id, its key and the address of DPS.
struct Device {
    id: String,
    dps: SocketAddr,
    hubs: BTreeMap<String, SocketAddr>,
}

impl Device {
    async fn live(self) {
        let mut hub: Option<String> = None;
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            match &hub {
                Some(name) => {
                    let status = self.send(name).await;
                    if matches!(status, Some(401 | 403 | 404)) {
                        hub = None;
                    }
                }
                None => hub = self.register().await,
            }
        }
    }

    async fn send(&self, hub: &str) -> Option<u16> {
        let now = jiff::Timestamp::now().as_millisecond();
        let body = format!("{{\"ts\":{now},\"value\":1}}");
        let resource = format!("{hub}%2Fdevices%2F{}", self.id);
        let path = format!(
            "/devices/{}/messages/events?api-version=2020-03-13",
            self.id
        );
        let address = *self.hubs.get(hub)?;
        let (status, _) = exchange(address, "POST", &path, &token(&resource, ""), &body).await?;
        Some(status)
    }

    async fn register(&self) -> Option<String> {
        let base = format!("/{SCOPE}/registrations/{}", self.id);
        let resource = base[1..].replace('/', "%2F");
        let token = token(&resource, "&skn=registration");
        let body = json!({ "registrationId": self.id }).to_string();
        let path = format!("{base}/register?api-version=2021-06-01");
        let (_, begun) = exchange(self.dps, "PUT", &path, &token, &body).await?;
        let operation = begun["operationId"].as_str()?.to_owned();
        let path = format!("{base}/operations/{operation}?api-version=2021-06-01");
        let mut ticks = interval(Duration::from_millis(50));
        for _ in 0..100 {
            ticks.tick().await;
            let (status, state) = exchange(self.dps, "GET", &path, &token, "").await?;
            if status == 200 {
                let hub = state["registrationState"]["assignedHub"].as_str();
                return hub.map(str::to_owned);
            }
        }
        None
    }
}

fn token(resource: &str, more: &str) -> String {
    let end = jiff::Timestamp::now().as_second() + 3_600;
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(KEY).unwrap()).unwrap();
    mac.update(format!("{resource}\n{end}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={end}{more}")
}

/// One request over plain HTTP: status and JSON.
async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: {token}\r\n\
        Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}

pub(super) fn lines(journal: &Path) -> usize {
    fs::read_to_string(journal).map_or(0, |text| text.lines().count())
}

const RUN: [&str; 10] = [
    "--services",
    "services.toml",
    "--look-every",
    "200ms",
    "--acts-max",
    "2",
    "--output",
    "json",
    "--telemetry-before",
    "1h",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_is_killed_over_and_over_moves_every_device_once_and_proves_it() {
    let azure = Azure::start().await;
    let mut consumer = azure.consumer();
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let journal = azure.path("device-move.jsonl");
    let ids: Vec<String> = (0..DEVICES).map(|number| format!("d-{number}")).collect();
    let mut first = vec![
        "move",
        "--from",
        "weu-test",
        "--to",
        "weu-1",
        "--keep-source",
        "1s",
    ];
    first.extend(ids.iter().map(String::as_str));
    first.extend(RUN);
    let mut kills = 0;
    for more in [2, 5, 8, 11, 14, 17, 20, 23] {
        // A line for the header and each device, then two or more an act.
        let begun = 2 + DEVICES;
        let resumed = ["move", "--resume", "device-move.jsonl"]
            .into_iter()
            .chain(RUN);
        let args = match journal.exists() {
            false => first.clone(),
            true => resumed.collect(),
        };
        let mut mover = azure
            .device(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ticks = interval(Duration::from_millis(20));
        while lines(&journal) < begun + more && mover.try_wait().unwrap().is_none() {
            ticks.tick().await;
        }
        kills += usize::from(mover.try_wait().unwrap().is_none());
        // SIGKILL: nothing of it gets to say goodbye.
        mover.kill().unwrap();
        mover.wait().unwrap();
    }
    assert!(kills >= 5, "{kills} kills");
    let args: Vec<&str> = ["move", "--resume", "device-move.jsonl"]
        .into_iter()
        .chain(RUN)
        .collect();
    let (code, report, errors) = tokio::task::block_in_place(|| azure.ran(&args));
    assert_eq!(code, Some(0), "{report}{errors}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["verdict"], "complete");
    assert_eq!(
        (&report["before"], &report["after"]),
        (&json!(DEVICES), &json!(DEVICES))
    );
    assert_eq!(report["moved"], DEVICES);
    for device in report["list"].as_array().unwrap() {
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
    assert!(consumer.is_running());
    let (code, said, _) = azure.ran(&["status", "device-move.jsonl"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("erased") && said.contains('6'), "{said}");
    consumer.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_said_refused_paused_and_taken_back_from_the_command_line() {
    let azure = Azure::start().await;
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let ran = |args: &[&str]| tokio::task::block_in_place(|| azure.ran(args));
    let query = "SELECT * FROM devices WHERE status = 'enabled'";
    let dry = [
        "move",
        "--from",
        "weu-test",
        "--place",
        "--query",
        query,
        "--dry-run",
    ];
    let (code, said, errors) = ran(&dry);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(
        said.contains("6 devices from weu-test") && said.contains("nothing was done"),
        "{said}"
    );
    let (code, _, errors) = ran(&[
        "move", "--from", "weu-test", "--to", "weu-1", "x-1", "d-1", "d-1",
    ]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("x-1 belongs to no tenant") && errors.contains("d-1 is named twice"),
        "{errors}"
    );

    // No service writes the production stamp's tables, so nobody is ever seen there.
    let run = [
        "--services",
        "services.toml",
        "--straggler-after",
        "1s",
        "--look-every",
        "200ms",
    ];
    let begin = ["move", "--from", "weu-test", "--to", "weu-1", "d-0", "d-1"];
    let begin: Vec<&str> = begin.into_iter().chain(run).collect();
    let (code, said, errors) = ran(&begin);
    assert_eq!(code, Some(5), "{said}{errors}");
    assert!(
        said.contains("late: d-0: DPS: assigned, 127.0.1.3"),
        "{said}"
    );
    assert_eq!(azure.is_at(&azure.prod, "enabled"), 2);
    assert_eq!(
        ran(&["pause", "device-move.jsonl", "--device", "d-9"]).0,
        Some(1)
    );
    let (code, said, _) = ran(&["roll-back", "device-move.jsonl"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("--resume device-move.jsonl"), "{said}");
    let resume = ["move", "--resume", "device-move.jsonl"];
    let resume: Vec<&str> = resume.into_iter().chain(run).collect();
    // Some may still have to register when it reports.
    let (code, said, errors) = ran(&resume);
    assert!(matches!(code, Some(0 | 5)), "{said}{errors}");
    assert!(said.contains("2 taken back"), "{said}{errors}");
    until("all home", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let (code, said, errors) = ran(&resume);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(
        said.contains("complete: 2 devices, 0 moved, 2 taken back"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_started_again_leaves_a_pause_as_it_is() {
    let azure = Azure::start().await;
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    let ran = |args: &[&str]| tokio::task::block_in_place(|| azure.ran(args));
    let run = [
        "--straggler-after",
        "1s",
        "--look-every",
        "200ms",
        "--no-audit",
    ];
    let begin = ["move", "--from", "weu-test", "--to", "weu-1", "d-0", "d-1"];
    let begin: Vec<&str> = begin.into_iter().chain(run).collect();
    assert_eq!(
        ran(&begin).0,
        Some(5),
        "nobody writes the tables: both are late"
    );
    assert_eq!(ran(&["pause", "device-move.jsonl"]).0, Some(0));
    let job = ["move", "--resume", "device-move.jsonl", "--unless-paused"];
    let job: Vec<&str> = job.into_iter().chain(run).collect();
    for _ in 0..2 {
        let (code, _, errors) = ran(&job);
        assert_eq!(code, Some(5), "{errors}");
        let (_, said, _) = ran(&["status", "device-move.jsonl"]);
        assert!(said.contains("paused") && said.contains('2'), "{said}");
    }
    assert_eq!(ran(&["resume", "device-move.jsonl"]).0, Some(0));
    assert_eq!(ran(&job).0, Some(5));
    let (_, said, _) = ran(&["status", "device-move.jsonl"]);
    assert!(!said.contains("paused"), "{said}");
    assert!(said.contains("late: d-0"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_running_move_has_its_stages_and_acts() {
    let azure = Azure::start().await;
    azure.switch_on();
    until("devices in test", async || {
        azure.is_at(&azure.test, "enabled") == DEVICES
    })
    .await;
    // No service writes the production stamp's tables, so the move stays where it is.
    let args = ["move", "--from", "weu-test", "--to", "weu-1", "d-0", "d-1"];
    let more = ["--listen", "127.0.0.1:0"];
    let mut mover = azure
        .device(&[&args[..], &RUN[..4], &more[..]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = std::io::BufReader::new(mover.stderr.take().unwrap());
    let _mover = Guarded(mover);
    let mut said = std::io::BufRead::lines(stderr).map_while(Result::ok);
    let url = tokio::task::block_in_place(|| {
        said.find_map(|line| line.strip_prefix("status page: ").map(str::to_owned))
    });
    let url = url.expect("it said where its page is");
    let page = async || Page::at(url.trim_start_matches("http://").trim_end_matches('/'), "");
    until("both devices are at the target", async || {
        azure.is_at(&azure.prod, "enabled") == 2
    })
    .await;
    until("the page says that they were begun", async || {
        let begun = page().await;
        let acts = begun.rows("acts").into_iter();
        acts.filter(|row| row["cells"]["outcome"]["value"] == "done")
            .count()
            > 1
    })
    .await;
    let begun = page().await;
    assert_eq!(begun.0["service"], "mover");
    assert_eq!(begun.0["ready"], true);
    let devices = begun.rows("stages").into_iter();
    let devices = devices.map(|row| row["cells"]["devices"]["value"].as_u64().unwrap());
    assert_eq!(devices.sum::<u64>(), 2, "{:#?}", begun.rows("stages"));
    assert_eq!(begun.figure("late")["value"], 0);
    let found = tokio::task::block_in_place(|| status_page(Look::Glance, &url, &pictures("mover")));
    assert_looked_at(&found, &GLANCE);
}
