//! The status page of real processes, in a real browser.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use stamp_emulator::OutgoingEvent;
use stamp_interop::{ACCOUNT_KEY, Look, status_page};
use stamp_model::{HubStamp, MessageSource};
use tokio::task::block_in_place;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::process::{Service, http_get};
use crate::provision::{World, allocate};
use crate::stamp::{ENVIRONMENT, SOON, Stamp, until};

/// Where pictures are left for a person: `target/status-page`, whatever the build's own folder is.
pub(crate) fn pictures(name: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.join("../../target/status-page").join(name)
}

/// A process that does not outlive the test that started it.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // Already gone is what we want.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The numbers of a page by section, row and column, as `/status.json` has them.
pub(crate) struct Page(pub(crate) Value);

impl Page {
    fn of(service: &Service, query: &str) -> Self {
        Self::at(&service.endpoints(), query)
    }

    pub(crate) fn at(address: &str, query: &str) -> Self {
        let answer = http_get(address, &format!("/status.json{query}"));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        Self(serde_json::from_str(body).unwrap())
    }

    pub(crate) fn rows(&self, section: &str) -> Vec<&Value> {
        let sections = self.0["sections"].as_array().unwrap();
        let found = sections.iter().find(|each| each["id"] == section);
        found.unwrap()["rows"].as_array().unwrap().iter().collect()
    }

    #[track_caller]
    fn cell(&self, section: &str, row: &str, column: &str) -> &Value {
        let rows = self.rows(section);
        let row = rows.iter().find(|each| each["id"] == row);
        &row.unwrap_or_else(|| panic!("no {row:?} in {rows:#?}"))["cells"][column]
    }

    fn number(&self, section: &str, row: &str, column: &str) -> f64 {
        self.cell(section, row, column)["value"].as_f64().unwrap()
    }

    pub(crate) fn figure(&self, id: &str) -> &Value {
        let figures = self.0["figures"].as_array().unwrap();
        figures.iter().find(|figure| figure["id"] == id).unwrap()
    }
}

/// Few commits: the page is looked at for as long as a browser takes.
const CALM: &str = "flush-age = \"2s\"\nbatch-wait-max = \"50ms\"\n";

/// A stamp with a second tenant, which has quotas.
fn start(stamp: &Stamp) -> Service {
    let more = format!("[consumer]\nhub-retention = \"7d\"\n{CALM}{SOON}");
    let config = stamp.config("s-1", &more);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&config)
        .unwrap();
    let second = "[[tenants]]\nid = \"fabrikam\"\nschema = \"contoso.toml\"\ndevices = [\"f-*\"]\n\
        quota = { events-per-second = 1, bytes-per-second = \"1KiB\", devices-max = 5 }\n";
    file.write_all(second.as_bytes()).unwrap();
    Service::start(&config, &ENVIRONMENT)
}

/// Events of the second tenant, more than its quota lets in.
fn flood(stamp: &Stamp, events: u64) {
    for number in 0..events {
        let event = OutgoingEvent {
            body: Bytes::from(format!(
                "{{\"ts\":{},\"value\":1}}",
                1_795_521_600_000 + number
            )),
            hub: HubStamp {
                device_id: Some(format!("f-{}", number % 3).into()),
                source: MessageSource::Telemetry,
                ..HubStamp::default()
            },
            ..OutgoingEvent::default()
        };
        stamp.hub.publish(0, event).unwrap();
    }
}

/// Nothing went wrong, nothing was asked of anybody else, and no dialog came up.
#[track_caller]
fn assert_quiet(noted: &Value) {
    for kind in ["console", "failed", "elsewhere", "dialogs"] {
        assert_eq!(noted[kind], serde_json::json!([]), "{kind}");
    }
}

#[track_caller]
fn texts(value: &Value) -> Vec<&str> {
    let texts = value.as_array().unwrap().iter();
    texts.map(|text| text.as_str().unwrap()).collect()
}

/// The page says what the metrics say.
#[track_caller]
fn assert_equal_to_metrics(service: &Service, page: &Page) {
    for tenant in ["contoso", "fabrikam"] {
        let metric = |name: &str, more: &[(&str, &str)]| {
            let labels = [&[("tenant", tenant)], more].concat();
            service.metric(name, &labels)
        };
        for (column, expected) in [
            (
                "readings",
                metric("stamp_events_total", &[("outcome", "reading")]),
            ),
            (
                "rejected",
                metric("stamp_events_total", &[("outcome", "rejected")]),
            ),
            (
                "quarantined",
                metric("stamp_events_total", &[("outcome", "quarantined")]),
            ),
            ("rows", metric("stamp_rows_written_total", &[])),
            ("bytes", metric("stamp_written_bytes_total", &[])),
            ("over_quota", metric("stamp_over_quota_events_total", &[])),
        ] {
            let shown = page.number("tenants", tenant, column);
            assert_eq!(shown, expected, "{column} of {tenant}");
        }
    }
    for partition in ["0", "1"] {
        let metric = |name: &str| service.metric(name, &[("partition", partition)]);
        for (column, name) in [
            ("lag_events", "stamp_lag_events"),
            ("checkpoint", "stamp_checkpoint_sequence"),
            ("events", "stamp_events_received_total"),
        ] {
            let shown = page.number("partitions", partition, column);
            assert_eq!(shown, metric(name), "{column} of {partition}");
        }
    }
    for row in page.rows("refused") {
        let value = |column: &str| row["cells"][column]["value"].as_str().unwrap_or_default();
        let (reason, tenant) = (value("reason"), value("tenant"));
        let expected = match value("kind") {
            "rejected" => service.metric(
                "stamp_rejected_events_total",
                &[("reason", reason), ("tenant", tenant)],
            ),
            _ => service.metric("stamp_quarantined_events_total", &[("reason", reason)]),
        };
        assert_eq!(row["cells"]["total"]["value"], expected, "{reason}");
        assert!(expected > 0.0, "{reason}");
    }
    for peer in ["eventhubs", "store", "store.contoso", "store.fabrikam"] {
        let closed = [("peer", peer), ("state", "closed")];
        assert_eq!(service.metric("stamp_breaker_state", &closed), 1.0);
        assert_eq!(page.cell("peers", peer, "breaker")["value"], "closed");
    }
}

/// Columns of ages and attempts, which go on while nothing happens.
const GOES_ON: [&str; 5] = [
    "committed",
    "attempts",
    "recent",
    "oldest_seconds",
    "headroom_seconds",
];

/// What the browser has on its screen is what `/status.json` says.
#[track_caller]
fn assert_on_screen(page: &Page, seen: &Value) {
    for section in page.0["sections"].as_array().unwrap() {
        let id = section["id"].as_str().unwrap();
        let shown = seen["tables"][id].as_array().unwrap();
        let rows = section["rows"].as_array().unwrap();
        assert_eq!(shown.len(), rows.len(), "{id}");
        for (row, shown) in rows.iter().zip(shown) {
            for column in section["columns"].as_array().unwrap() {
                let (key, label) = (
                    column["id"].as_str().unwrap(),
                    column["label"].as_str().unwrap(),
                );
                if GOES_ON.contains(&key) {
                    continue;
                }
                assert_eq!(shown[label], row["cells"][key]["text"], "{id}: {label}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamps_page_is_live_true_and_usable_in_a_browser() {
    let mut stamp = Stamp::new(2).await;
    let service = start(&stamp);
    let address = format!("http://{}/", service.endpoints());
    stamp.publish(1_000);
    flood(&stamp, 300);
    until("the second tenant is over its quota", async || {
        service.metric("stamp_over_quota_events_total", &[]) > 0.0
    })
    .await;

    // Numbers move while somebody looks.
    let done = CancellationToken::new();
    let watched = tokio::task::spawn_blocking({
        let (address, done) = (address.clone(), done.clone());
        move || {
            let _done = done.drop_guard();
            status_page(Look::Watch, &address, &pictures("watch"))
        }
    });
    let mut ticks = interval(Duration::from_millis(500));
    while !done.is_cancelled() {
        ticks.tick().await;
        stamp.publish(20);
    }
    let watched = watched.await.unwrap();
    assert_eq!(watched["status"], 200);
    assert_quiet(&watched["noted"]);
    assert_eq!(watched["isTheSamePage"], true, "it was not loaded again");
    assert_ne!(watched["before"]["figures"], watched["after"]["figures"]);

    // Then they are those of the metrics, to the last one.
    stamp.until_settled().await;
    until("the page has the last numbers", async || {
        let page = Page::of(&service, "");
        let events = service.metric("stamp_events_received_total", &[]);
        let sum = |column: &str| -> f64 {
            let partitions = ["0", "1"].iter();
            partitions
                .map(|partition| page.number("partitions", partition, column))
                .sum()
        };
        // How far the hub reaches is asked every ten seconds.
        let caught_up = sum("lag_events") == 0.0 && page.figure("lag")["value"] == 0;
        sum("events") == events && caught_up
    })
    .await;
    let page = Page::of(&service, "");
    assert_equal_to_metrics(&service, &page);
    assert!(page.number("tenants", "fabrikam", "quota_events") <= 60.0);
    assert_eq!(
        page.cell("tenants", "fabrikam", "quota_devices")["limit"],
        5
    );
    assert_eq!(
        page.cell("tenants", "contoso", "store")["text"],
        "taking rows"
    );
    let tables: Vec<&str> = page
        .rows("tables")
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    for table in [
        "/quarantine",
        "contoso/readings",
        "contoso/rejected",
        "fabrikam/rollups",
    ] {
        assert!(tables.contains(&table), "{table} of {tables:?}");
        assert!(page.number("tables", table, "rows") > 0.0, "{table}");
    }
    let lake = stamp
        .lake
        .tenant(&stamp_model::TenantId::parse("contoso").unwrap());
    let rejected = lake.rejected().load().await.unwrap();
    assert_eq!(
        page.number("tables", "contoso/rejected", "version"),
        rejected.version() as f64,
        "the version in the store"
    );
    assert_eq!(
        page.cell("partitions", "1", "owner")["text"],
        "this process"
    );

    let found = block_in_place(|| status_page(Look::Inspect, &address, &pictures("consumer")));
    assert_on_screen(&page, &found["seen"]);
    let shapes = ["light-desk", "light-phone", "dark-desk", "dark-phone"];
    assert_looked_at(&found, &shapes);
    assert_cut_is_said(&found["cut"]);
    let filter = &found["filter"];
    assert_eq!(texts(&filter["all"]), ["contoso", "fabrikam"]);
    assert_eq!(texts(&filter["some"]), ["fabrikam"]);
    assert_eq!(texts(&filter["again"]), ["contoso", "fabrikam"]);
    assert!(filter["here"].as_str().unwrap().ends_with("/?tenant=fabri"));
    for table in ["tenants", "tables", "refused"] {
        for row in filter["tables"][table].as_array().unwrap() {
            assert_eq!(row["Tenant"], "fabrikam", "{table}");
        }
    }
    assert_quiet(&filter["noted"]);
    assert_quiet(&filter["hostile"]["noted"]);
    assert_eq!(filter["hostile"]["shown"], filter["hostile"]["typed"]);
    assert_eq!(filter["hostile"]["images"], 0);
    let plain = &found["plain"];
    assert_eq!(
        (plain["all"].as_u64(), plain["some"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(
        plain["pause"], false,
        "a button that does nothing is not shown"
    );
    assert_quiet(&plain["noted"]);

    // A store that does not answer is seen, by whose it is.
    stamp.store.refuse(true);
    stamp.publish(200);
    until("the page says that the store does not answer", async || {
        let page = Page::of(&service, "");
        page.cell("tenants", "contoso", "store")["value"] != "closed" && page.0["level"] != "fine"
    })
    .await;
    stamp.store.clear();
    stamp.until_settled().await;

    // What only the service may know is nowhere on it.
    for path in ["/", "/status.json"] {
        let answer = http_get(&service.endpoints(), path);
        assert!(!answer.contains(ACCOUNT_KEY), "{path}");
        assert!(!answer.contains(stamp.azurite.account_name()), "{path}");
    }
    service.stop();
    stamp.emulator.stop().await;
}

/// Whether the numbers are live is said, an outage is waited for ever longer, and updates can be paused.
#[track_caller]
fn assert_cut_is_said(cut: &Value) {
    for reached in ["on", "stale", "back", "resumed"] {
        assert_eq!(cut[reached], true, "{reached}: {cut}");
    }
    let text = cut["text"].as_str().unwrap();
    assert!(text.starts_with("Stale, no answer for "), "{cut}");
    // Every two seconds these would have been sixty.
    let asked = cut["asked"].as_u64().unwrap();
    assert!((2..=8).contains(&asked), "{asked} times in two minutes");
    assert_eq!(cut["paused"], "paused");
    assert_eq!(cut["resume"], "Resume updates");
}

/// What holds for each page, whatever is on it.
#[track_caller]
pub(crate) fn assert_looked_at(found: &Value, shapes: &[&str]) {
    assert_eq!(found["status"], 200);
    assert_quiet(&found["noted"]);
    let mut backgrounds = BTreeSet::new();
    for shape in shapes {
        let looked = &found["shapes"][shape];
        assert_eq!(texts(&looked["violations"]), [""; 0], "{shape}");
        let contrast = looked["contrast"].as_u64().unwrap();
        assert!(contrast > 0, "{shape}: contrast was looked at");
        let overflow = &looked["overflow"];
        assert!(
            overflow["scroll"].as_u64() <= overflow["width"].as_u64(),
            "{shape}: {overflow}"
        );
        let keys = &looked["keys"];
        assert_eq!(
            texts(&keys["missed"]),
            [""; 0],
            "{shape}: not reached by Tab"
        );
        assert_eq!(
            texts(&keys["unseen"]),
            [""; 0],
            "{shape}: focus is not seen"
        );
        assert!(texts(&keys["controls"]).len() > 5, "{shape}");
        assert_quiet(&looked["noted"]);
        backgrounds.insert(looked["background"].as_str().unwrap());
    }
    assert_eq!(backgrounds.len(), 2, "dark and light differ");
}

/// Of [`Look::Glance`].
pub(crate) const GLANCE: [&str; 2] = ["light-desk", "dark-phone"];

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioners_page_has_stamps_with_booked_and_limit() {
    let world = World::new(5, None);
    let (provisioner, webhook) = world.start("p-1");
    block_in_place(|| {
        for device in ["press-1", "press-2", "press-2"] {
            assert!(
                allocate(&webhook, device).is_some(),
                "{}",
                provisioner.log()
            );
        }
    });
    let page = Page::of(&provisioner, "");
    assert_eq!(page.0["service"], "provisioner");
    assert_eq!(page.figure("database")["text"], "reached");
    let booked = [("route", "allocate"), ("outcome", "booked")];
    let booked = provisioner.metric("stamp_provision_requests_total", &booked);
    assert_eq!(booked, 2.0);
    assert_eq!(page.number("answers", "allocate/booked", "total"), booked);
    assert_eq!(page.number("answers", "allocate/kept", "total"), 1.0);
    let devices = page.cell("stamps", "eu-1", "devices");
    assert_eq!(
        (&devices["value"], &devices["limit"]),
        (&2.into(), &5.into())
    );
    assert_eq!(page.cell("stamps", "eu-1", "tenants")["text"], "1 / 5");

    let address = format!("http://{}/", provisioner.endpoints());
    let found = block_in_place(|| provisioner_page(&address));

    assert_on_screen(&page, &found["seen"]);
    assert_looked_at(&found, &GLANCE);
    provisioner.stop();
}

fn provisioner_page(address: &str) -> Value {
    status_page(Look::Glance, address, &pictures("provisioner"))
}

#[test]
fn a_demo_says_where_its_pages_are_and_serves_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_stampworks"))
        .args([
            "demo",
            "--duration",
            "60s",
            "--rate",
            "200",
            "--listen",
            "127.0.0.1:0",
            "--tables",
        ])
        .arg(folder.path().join("tables"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = std::io::BufReader::new(demo.stderr.take().unwrap());
    let _demo = Guarded(demo);
    let mut said = std::io::BufRead::lines(stderr).map_while(Result::ok);
    let mut pages = BTreeMap::new();
    while pages.len() < 2 {
        let line = said.next().expect("the demo said where its pages are");
        if let Some((stamp, url)) = line.split_once(": status page http://") {
            pages.insert(stamp.to_owned(), url.trim_end_matches('/').to_owned());
        }
    }
    for (stamp, address) in &pages {
        let answer = http_get(address, "/status.json");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let status: Value = serde_json::from_str(body).unwrap();
        assert_eq!(status["name"], stamp.as_str());
        assert!(http_get(address, "/metrics").contains("stamp_build_info{"));
    }
    assert_eq!(pages.keys().collect::<Vec<_>>(), ["eu-1", "us-1"]);
}
