//! The files of the demo's fleet: what an operator would write, in a folder of its own.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use stamp_emulator::derive_device_key;

/// The test stamp and the production stamps.
pub(super) const STAMPS: [StampFacts; 3] = [
    StampFacts {
        id: "test-1",
        environment: "test",
        ring: "canary",
        region: "westeurope",
        geography: "europe",
        dedicated_to: None,
        tenants: &["contoso", "northwind"],
    },
    StampFacts {
        id: "eu-contoso",
        environment: "production",
        ring: "early",
        region: "westeurope",
        geography: "europe",
        dedicated_to: Some("contoso"),
        tenants: &["contoso"],
    },
    StampFacts {
        id: "us-1",
        environment: "production",
        ring: "general",
        region: "eastus",
        geography: "unitedstates",
        dedicated_to: None,
        tenants: &["northwind"],
    },
];

/// Each tenant, the geographies of its production data, and the stamp that placement must find.
pub(super) const TENANTS: [TenantFacts; 2] = [
    TenantFacts {
        id: "contoso",
        geographies: &["europe"],
        tier: "dedicated",
        production: "eu-contoso",
        stamps: "stamps = [\"eu-contoso\", \"test-1\"]\n",
        group_key: "Y29udG9zbzogdGhlIGtleSBvZiBhIGdy",
    },
    TenantFacts {
        id: "northwind",
        geographies: &["europe", "unitedstates"],
        tier: "standard",
        production: "us-1",
        stamps: "",
        group_key: "bm9ydGh3aW5kOiB0aGUga2V5IG9mIGEg",
    },
];

pub(super) const SCOPE: &str = "0ne000DE300";

pub(super) struct StampFacts {
    pub(super) id: &'static str,
    environment: &'static str,
    ring: &'static str,
    region: &'static str,
    geography: &'static str,
    dedicated_to: Option<&'static str>,
    pub(super) tenants: &'static [&'static str],
}

pub(super) struct TenantFacts {
    pub(super) id: &'static str,
    geographies: &'static [&'static str],
    tier: &'static str,
    pub(super) production: &'static str,
    /// The line of the catalogue that fixes its stamps; where there is none, placement chooses.
    stamps: &'static str,
    /// Of its enrolment group, base64. No secret: it opens nothing beyond this machine.
    group_key: &'static str,
}

/// What the readings are.
const SCHEMA: &str = r#"version = 1

[event-time]
source = "enqueued"

[[fields]]
name = "n"
path = "n"
type = "i64"
required = true

[[fields]]
name = "level"
path = "level"
type = "f64"
"#;

/// A device and the key that its group's gives it.
pub(super) struct DemoDevice {
    pub(super) id: String,
    pub(super) key: String,
}

/// Where everything is.
pub(super) struct Folder {
    root: PathBuf,
    /// Of this run, so that two demos do not meet: published clients have fixed ports.
    addresses: [Ipv4Addr; 5],
}

impl Folder {
    /// In a folder that is there.
    pub(super) fn new(root: PathBuf) -> Self {
        let address =
            |n: u32| Ipv4Addr::from_bits(127 << 24 | (std::process::id() << 3 | n) & 0x00ff_ffff);
        Self {
            root,
            addresses: [1, 2, 3, 4, 5].map(address),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn dps(&self) -> Ipv4Addr {
        self.addresses[3]
    }

    /// The host name of a stamp's IoT Hub.
    pub(super) fn hub(&self, stamp: usize) -> String {
        self.addresses[stamp].to_string()
    }

    fn provisioner(&self) -> String {
        format!("{}:8443", self.addresses[4])
    }

    /// Writes what does not depend on ports that are not known yet.
    pub(super) fn write(&self) -> io::Result<()> {
        fs::create_dir_all(self.path("logs"))?;
        fs::write(self.path("schema.toml"), SCHEMA)?;
        fs::write(self.path("devices.py"), super::DEVICES)?;
        fs::write(self.path("keys"), access_key())?;
        fs::write(self.path("emulators.toml"), self.emulators())?;
        fs::write(self.path("fleet.toml"), self.fleet())?;
        fs::write(self.path("provision.toml"), self.provision())
    }

    /// Writes what the emulators' connection strings are needed for.
    pub(super) fn write_services(
        &self,
        connection_string: impl Fn(&str, &str) -> Option<String>,
    ) -> io::Result<()> {
        let keep = |file: &str, kind: &str, name: &str| {
            let missing = || io::Error::other(format!("the emulators told of no {kind} {name}"));
            let text = connection_string(kind, name).ok_or_else(missing)?;
            fs::write(self.path(file), text)
        };
        let mut services =
            "[dps]\nconnection-string-file = \"dps.txt\"\nextra-ca-file = \"ca.pem\"\n".to_owned();
        keep("dps.txt", "dps", SCOPE)?;
        for stamp in &STAMPS {
            let id = stamp.id;
            keep(&format!("{id}-event-hub.txt"), "event-hub", id)?;
            keep(&format!("{id}-iot-hub.txt"), "iot-hub", id)?;
            fs::write(self.path(&format!("{id}.toml")), self.stamp(stamp))?;
            push(
                &mut services,
                format_args!(
                    "\n[stamps.{id}.iot-hub]\nconnection-string-file = \"{id}-iot-hub.txt\"\nextra-ca-file = \"ca.pem\"\n\
                     [stamps.{id}.store]\nurl = \"{}\"\n",
                    self.tables(id)
                ),
            );
        }
        fs::write(self.path("services.toml"), services)
    }

    /// The address of a stamp's tables.
    pub(super) fn tables(&self, stamp: &str) -> String {
        format!("file://{}/{stamp}/tables", self.root.display())
    }

    fn emulators(&self) -> String {
        let mut text = format!(
            "listen = \"127.0.0.1:0\"\nca-file = \"ca.pem\"\n\n\
             [[certificates]]\nnames = [\"{}\"]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n",
            self.addresses[4]
        );
        for (number, stamp) in STAMPS.iter().enumerate() {
            push(
                &mut text,
                format_args!(
                    "\n[event-hubs.{id}]\npartitions = 2\n\n[iot-hubs.{id}]\nlisten = {{ address = \"{}\" }}\nevent-hub = \"{id}\"\n",
                    self.hub(number),
                    id = stamp.id
                ),
            );
        }
        let names: Vec<&str> = STAMPS.iter().map(|stamp| stamp.id).collect();
        push(
            &mut text,
            format_args!(
                "\n[dps]\nlisten = {{ address = \"{}\" }}\nid-scope = \"{SCOPE}\"\nlinked-hubs = {names:?}\nretry-after = \"1s\"\n",
                self.dps()
            ),
        );
        for tenant in &TENANTS {
            push(
                &mut text,
                format_args!(
                    "\n# The webhook chooses among the hubs of an enrolment: at first the test hub only.\n\
                     [dps.enrollment-groups.{id}]\nallocationPolicy = \"custom\"\niotHubs = [\"{hub}\"]\n\
                     customAllocationDefinition = {{ webhookUrl = \"https://{provisioner}/v1/allocate?code={code}\", apiVersion = \"2021-10-01\" }}\n\
                     initialTwin = {{ tags = {{ tenant = \"{id}\" }} }}\n\
                     [dps.enrollment-groups.{id}.attestation]\ntype = \"symmetricKey\"\n\
                     symmetricKey = {{ primaryKey = \"{key}\", secondaryKey = \"{key}\" }}\n",
                    id = tenant.id,
                    hub = self.hub(0),
                    provisioner = self.provisioner(),
                    code = access_key(),
                    key = tenant.group_key,
                ),
            );
        }
        text
    }

    fn fleet(&self) -> String {
        let mut text = "version = 1\n".to_owned();
        for (number, stamp) in STAMPS.iter().enumerate() {
            let kind = if stamp.dedicated_to.is_some() {
                "dedicated"
            } else {
                "shared"
            };
            let tenants = if stamp.dedicated_to.is_some() {
                ""
            } else {
                ", tenants = 10"
            };
            let dedicated = stamp
                .dedicated_to
                .map(|tenant| format!("dedicated-to = \"{tenant}\"\n"));
            push(
                &mut text,
                format_args!(
                    "\n[[stamps]]\nid = \"{id}\"\nregion = \"{}\"\ngeography = \"{}\"\nkind = \"{kind}\"\n{}environment = \"{}\"\n\
                     ring = \"{ring}\"\nversion = \"{version}\"\nstorage-root = \"{tables}\"\n\
                     iot-hub = {{ name = \"{hub}\", tier = \"S1\", units = 1 }}\ncapacity = {{ devices = 1000{tenants} }}\n\
                     [stamps.event-hub]\nnamespace = \"{id}.servicebus.windows.net\"\nhub = \"telemetry\"\ntier = \"standard\"\n\
                     throughput-units = 1\npartitions = 2\n",
                    stamp.region,
                    stamp.geography,
                    dedicated.unwrap_or_default(),
                    stamp.environment,
                    ring = stamp.ring,
                    id = stamp.id,
                    version = env!("CARGO_PKG_VERSION"),
                    tables = self.tables(stamp.id),
                    hub = self.hub(number),
                ),
            );
        }
        for tenant in &TENANTS {
            push(
                &mut text,
                format_args!(
                    "\n[[tenants]]\nid = \"{id}\"\ngeographies = {:?}\ntier = \"{}\"\nschema = \"schema.toml\"\ndevices = [\"{id}-*\"]\n{}",
                    tenant.geographies,
                    tenant.tier,
                    tenant.stamps,
                    id = tenant.id,
                ),
            );
        }
        text
    }

    fn provision(&self) -> String {
        format!(
            "name = \"provision\"\nfleet = \"fleet.toml\"\nlisten = \"{}\"\n\
             tls = {{ certificate = \"tls.crt\", key = \"tls.key\" }}\naccess.keys-file = \"keys\"\n\
             reservations.url = \"sqlite:fleet.db\"\ntelemetry.listen = \"127.0.0.1:0\"\n",
            self.provisioner()
        )
    }

    fn stamp(&self, stamp: &StampFacts) -> String {
        let id = stamp.id;
        let mut text = format!(
            "stamp = \"{id}\"\n\n[hub]\nconnection-string-file = \"{id}-event-hub.txt\"\nhub = \"{id}\"\n\n\
             [store]\nurl = \"{}\"\n\n[consumer]\nflush-age = \"1s\"\n\n[telemetry]\nlisten = \"127.0.0.1:0\"\nlog-format = \"text\"\n",
            self.tables(id)
        );
        for tenant in stamp.tenants {
            push(
                &mut text,
                format_args!(
                    "\n[[tenants]]\nid = \"{tenant}\"\nschema = \"schema.toml\"\ndevices = [\"{tenant}-*\"]\n"
                ),
            );
        }
        text
    }
}

/// Some devices of each tenant.
pub(super) fn devices(of_each: u16) -> Vec<DemoDevice> {
    let device = |tenant: &TenantFacts, number: u16| {
        let id = format!("{}-{number}", tenant.id);
        let key = derive_device_key(tenant.group_key, &id)?;
        Some(DemoDevice { id, key })
    };
    let all = TENANTS
        .iter()
        .flat_map(|tenant| (1..=of_each).filter_map(move |n| device(tenant, n)));
    all.collect()
}

/// Nothing here is secret: the keys are as old as the run, and open nothing beyond this machine.
fn access_key() -> &'static str {
    "demo-key-of-the-webhook"
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(more);
}
