//! A filled emulator in a process of its own, so that what it costs is told apart.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use stamp_eventhubs::{AmqpConfig, AmqpHub, TlsConfig};

use super::usage;
use super::{BEGAN, Population};
use crate::exit::Failure;

pub(super) const HUB: &str = "bench";

/// What the hub is filled with, and how it is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    pub(super) events: u64,
    pub(super) partitions: u32,
    pub(super) seed: u64,
    pub(super) population: Population,
    pub(super) tls: bool,
}

impl Fill {
    /// How many events a partition gets.
    pub(super) fn share(&self, partition: u32) -> u64 {
        let partitions = u64::from(self.partitions);
        self.events / partitions + u64::from(u64::from(partition) < self.events % partitions)
    }
}

/// The process, which ends with this guard.
pub(super) struct Emulator {
    child: Child,
    /// Host and port without TLS.
    pub(super) address: String,
    config: AmqpConfig,
    /// Connection string and certificate.
    folder: tempfile::TempDir,
}

impl Emulator {
    /// Starts one and waits until its hub is filled.
    pub(super) fn start(fill: Fill) -> Result<Self, Failure> {
        let failed =
            |cause: std::io::Error| Failure::failed("cannot start the emulator's process", cause);
        let folder = tempfile::tempdir().map_err(failed)?;
        let ca_file = folder.path().join("ca.pem");
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["emulate", "--listen", "127.0.0.1:0"]);
        command.args(["--hub", &format!("{HUB}:{}", fill.partitions)]);
        command.args(["--fill", &fill.events.to_string()]);
        command.args(["--fill-seed", &fill.seed.to_string()]);
        command.args(["--fill-began", BEGAN]);
        let Population {
            interval,
            devices,
            tenants,
        } = fill.population;
        let interval = humantime::format_duration(interval).to_string();
        command.args(["--fill-interval", &interval]);
        command.args(["--fill-devices", &devices.to_string()]);
        command.args(["--fill-tenants", &tenants.to_string()]);
        if fill.tls {
            command.args(["--tls-listen", "127.0.0.1:0", "--ca-file"]);
            command.arg(&ca_file);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut emulator = Self {
            child,
            address: String::new(),
            config: AmqpConfig::default(),
            folder,
        };
        let stdout = emulator.child.stdout.take();
        let mut lines = stdout
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufRead::lines);
        let mut line = || match lines.next() {
            Some(line) => line.map_err(failed),
            None => Err(Failure::because(
                "the emulator's process ended before it was ready",
            )),
        };
        let plain = line()?;
        let endpoint = |line: &str| {
            let parts = line.split(';');
            let host = parts
                .filter_map(|part| part.trim().strip_prefix("Endpoint=sb://"))
                .next();
            host.map(|host| host.trim_end_matches('/').to_owned())
                .ok_or_else(|| Failure::because("the emulator's process said something else"))
        };
        emulator.address = endpoint(&plain)?.replace("localhost", "127.0.0.1");
        emulator.config = AmqpConfig {
            endpoint: Some(format!("amqp://{}", emulator.address)),
            hub: Some(HUB.into()),
            ..AmqpConfig::default()
        };
        if fill.tls {
            let secured = line()?;
            let file = emulator.folder.path().join("connection-string");
            std::fs::write(&file, &secured).map_err(failed)?;
            emulator.config.endpoint = Some(format!("amqps://{}", endpoint(&secured)?));
            emulator.config.connection_string_file = Some(file);
            emulator.config.tls = TlsConfig {
                extra_ca_file: Some(ca_file),
            };
        }
        Ok(emulator)
    }

    pub(super) fn hub(&self) -> Result<AmqpHub, Failure> {
        AmqpHub::new(&self.config)
            .map_err(|cause| Failure::failed("cannot use the emulator", cause))
    }

    /// The hub's table of a stamp's configuration.
    pub(super) fn hub_toml(&self) -> String {
        let quoted = |path: &PathBuf| format!("\"{}\"", path.display());
        let AmqpConfig { endpoint, .. } = &self.config;
        let mut text = format!(
            "endpoint = \"{}\"\nhub = \"{HUB}\"\n",
            endpoint.as_deref().unwrap_or_default()
        );
        if let Some(file) = &self.config.connection_string_file {
            text += &format!("connection-string-file = {}\n", quoted(file));
        }
        if let Some(file) = &self.config.tls.extra_ca_file {
            text += &format!("tls = {{ extra-ca-file = {} }}\n", quoted(file));
        }
        text
    }

    /// CPU seconds of the process until now; 0 where the system does not tell.
    pub(super) fn cpu_s(&self) -> f64 {
        usage::cpu_s_of(self.child.id())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
