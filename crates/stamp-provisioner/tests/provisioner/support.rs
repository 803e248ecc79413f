//! A fleet in a folder, a database, a provisioner, and a caller.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stamp_interop::Postgres;
use stamp_model::StampId;
use stamp_placement::{Axis, Load};
use stamp_provisioner::{ProvisionConfig, ProvisionParts, Provisioner, wall_clock};
use stamp_reservations::{Reservations, ReservationsConfig};
use stamp_resilience::NoObserver;
use stamp_telemetry::{ProvisionMetrics, Registry};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "a-key-of-these-tests";
/// Far more than anything takes.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One stamp of a test's fleet.
pub(crate) struct StampOf<'a> {
    pub(crate) id: &'a str,
    pub(crate) geography: &'a str,
    pub(crate) environment: &'a str,
    pub(crate) devices: u64,
}

pub(crate) const fn production(id: &str, devices: u64) -> StampOf<'_> {
    StampOf {
        id,
        geography: "europe",
        environment: "production",
        devices,
    }
}

pub(crate) fn hub(stamp: &str) -> String {
    format!("{stamp}.azure-devices.net")
}

/// The text of a catalogue with the tenants `contoso` (Europe, devices `press-*`), `fabrikam`
/// (Europe, `oven-*`) and `northwind` (moon, `truck-*`). `more` goes into `contoso`.
pub(crate) fn catalogue(stamps: &[StampOf<'_>], more: &str) -> String {
    let mut text = "version = 1\n".to_owned();
    for stamp in stamps {
        let StampOf {
            id,
            geography,
            environment,
            devices,
        } = stamp;
        write!(
            text,
            r#"
[[stamps]]
id = "{id}"
region = "somewhere"
geography = "{geography}"
kind = "shared"
environment = "{environment}"
ring = "general"
version = "0.1.0"
storage-root = "az://{id}/telemetry"
iot-hub = {{ name = "{id}.azure-devices.net", tier = "S3", units = 1 }}
capacity = {{ devices = {devices}, tenants = 2 }}
[stamps.event-hub]
namespace = "{id}.servicebus.windows.net"
hub = "telemetry"
tier = "standard"
throughput-units = 4
partitions = 4
"#
        )
        .unwrap();
    }
    for (id, geography, devices, more) in [
        ("contoso", "europe", "press-*", more),
        ("fabrikam", "europe", "oven-*", ""),
        ("northwind", "moon", "truck-*", ""),
    ] {
        write!(
            text,
            "\n[[tenants]]\nid = \"{id}\"\ngeographies = [\"{geography}\"]\ntier = \"standard\"\n\
             schema = \"schema.toml\"\ndevices = [\"{devices}\"]\n{more}\n"
        )
        .unwrap();
    }
    text
}

/// A fleet's files and its database.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) postgres: Option<Postgres>,
}

impl World {
    pub(crate) fn sqlite(catalogue: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self {
            folder,
            postgres: None,
        };
        world.publish(catalogue);
        std::fs::write(world.path("keys"), format!("{KEY}\n")).unwrap();
        world
    }

    pub(crate) fn postgresql(catalogue: &str) -> Self {
        Self {
            postgres: Some(Postgres::start()),
            ..Self::sqlite(catalogue)
        }
    }

    /// One of each.
    pub(crate) fn both(catalogue: &str) -> [Self; 2] {
        [Self::sqlite(catalogue), Self::postgresql(catalogue)]
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn publish(&self, catalogue: &str) {
        std::fs::write(self.path("fleet.toml"), catalogue).unwrap();
    }

    pub(crate) fn database(&self) -> ReservationsConfig {
        match &self.postgres {
            None => ReservationsConfig::new(format!("sqlite:{}", self.path("fleet.db").display())),
            Some(postgres) => ReservationsConfig {
                password_file: Some(postgres.password_file()),
                ..ReservationsConfig::new(postgres.url())
            },
        }
    }

    /// Devices that are booked on a stamp, its leaving ones too.
    pub(crate) async fn booked(&self, stamp: &str) -> u64 {
        let load = self.load(stamp).await;
        load[Axis::Devices]
    }

    pub(crate) async fn load(&self, stamp: &str) -> Load {
        let door = Reservations::open(&self.database()).await.unwrap();
        let usage = door.usage().await.unwrap();
        let stamp = StampId::parse(stamp).unwrap();
        let found = usage.into_iter().find(|(id, _)| *id == stamp);
        found.map(|(_, load)| load).unwrap_or_default()
    }

    /// `more` is TOML of the top level.
    pub(crate) async fn start(&self, more: &str) -> Running {
        self.start_on(self.database(), more).await
    }

    /// On a database of another address.
    pub(crate) async fn start_on(&self, database: ReservationsConfig, more: &str) -> Running {
        Running::start(self.config(&database, more)).await
    }

    pub(crate) fn config(&self, database: &ReservationsConfig, more: &str) -> ProvisionConfig {
        let mut text = format!(
            "fleet = \"fleet.toml\"\nlisten = \"127.0.0.1:0\"\naccess.keys-file = \"keys\"\n\
             resilience.look-every = \"100ms\"\nreservations.url = {:?}\n",
            database.url
        );
        if let Some(file) = &database.password_file {
            writeln!(text, "reservations.password-file = {file:?}").unwrap();
        }
        text.push_str(more);
        let file = self.path(&format!("provision-{}.toml", more.len()));
        std::fs::write(&file, text).unwrap();
        ProvisionConfig::load(&file).unwrap()
    }
}

/// Stands before a PostgreSQL server, and passes nothing on while it hangs.
pub(crate) struct Hanging {
    folder: tempfile::TempDir,
    hangs: watch::Sender<bool>,
}

impl Hanging {
    pub(crate) fn start(server: PathBuf) -> Self {
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let (hangs, seen) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (server, seen) = (UnixStream::connect(&server).await.unwrap(), seen.clone());
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, seen.clone()));
                tokio::spawn(pass(from_server, to_client, seen));
            }
        });
        Self { folder, hangs }
    }

    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    pub(crate) fn database(&self, world: &World) -> ReservationsConfig {
        let folder = self.folder.path().display();
        ReservationsConfig {
            url: format!("postgres://stamp@localhost/postgres?host={folder}"),
            ..world.database()
        }
    }
}

/// Passes bytes on, one way, as long as nothing hangs.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut hangs: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        drop(hangs.wait_for(|hangs| !hangs).await);
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// A provisioner in this process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) reload: Arc<Notify>,
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub(crate) fn parts(config: &ProvisionConfig, registry: &Registry) -> ProvisionParts {
    ProvisionParts {
        metrics: ProvisionMetrics::new(registry, &config.name).unwrap(),
        observer: Arc::new(NoObserver),
        seed: 7,
        clock: wall_clock(),
    }
}

impl Running {
    async fn start(config: ProvisionConfig) -> Self {
        let registry = Registry::new();
        let parts = parts(&config, &registry);
        let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
        let provisioner = Provisioner::start(config, parts, &stop).await.unwrap();
        let address = provisioner.address();
        let task = tokio::spawn({
            let (stop, reload) = (stop.clone(), Arc::clone(&reload));
            async move { provisioner.run(&reload, &stop).await }
        });
        Self {
            address,
            reload,
            registry,
            stop,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// A metric's value; its labels as they are written.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.registry.text();
        let line = text.lines().find(|line| line.starts_with(series));
        let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Asks until it is so.
    pub(crate) async fn until(&self, is: impl AsyncFn() -> bool) {
        let is = async {
            while !is().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, is)
            .await
            .expect("it should become so");
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &str,
        body: &str,
    ) -> Answer {
        ask(self.address, method, target, headers, body).await
    }

    /// As DPS calls the webhook.
    pub(crate) async fn allocate(&self, body: &Value) -> Answer {
        let target = format!("/v1/allocate?code={KEY}");
        let headers = "content-type: application/json; charset=utf-8\r\n";
        self.ask("POST", &target, headers, &body.to_string()).await
    }

    pub(crate) async fn look_up(&self, target: &str, headers: &str) -> Answer {
        let headers = format!("x-functions-key: {KEY}\r\n{headers}");
        self.ask("GET", target, &headers, "").await
    }
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) head: String,
    /// Null when there is none.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    pub(crate) fn origin(&self) -> &str {
        self.header("x-stamp-origin").unwrap_or_default()
    }

    /// The stamp of an allocation.
    #[track_caller]
    pub(crate) fn stamp(&self) -> &str {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["initialTwin"]["tags"]["stamp"].as_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn code(&self) -> &str {
        self.body["code"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    );
    // A server that has read enough may close before everything is sent.
    let _sent = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

/// What DPS sends for a device of a group that links the hubs of these stamps.
pub(crate) fn registration(device: &str, linked: &[&str]) -> Value {
    json!({
        "enrollmentGroup": {"enrollmentGroupId": "fleet", "allocationPolicy": "custom"},
        "deviceRuntimeContext": {"registrationId": device, "symmetricKey": {}},
        "linkedHubs": linked.iter().map(|stamp| hub(stamp)).collect::<Vec<_>>(),
    })
}

/// The same for one that DPS assigned before.
pub(crate) fn again(device: &str, linked: &[&str], current: &str) -> Value {
    let mut body = registration(device, linked);
    body["deviceRuntimeContext"]["currentIotHubHostName"] = hub(current).into();
    body["deviceRuntimeContext"]["currentDeviceId"] = device.into();
    body
}
