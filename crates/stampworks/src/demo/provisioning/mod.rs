//! `stampworks demo --provisioning`: devices go from test to production without being touched.
//!
//! Every part is a command of this program, started as an operator would start it, with files that
//! stay in the demo's folder: the emulated IoT Hubs and DPS, the provisioner, a consumer for each of
//! three stamps, and the mover. The devices are the published Python client, unmodified. At the end
//! the tables are compared with what the devices know they sent.

mod devices;
mod folder;
mod process;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::devices::{Known, Ledger};
use self::folder::{DemoDevice, Folder, SCOPE, STAMPS};
use self::process::{Lines, Process};
use self::report::Story;
use super::OutputFormat;
use crate::exit::Failure;
use crate::opened::print_json;
use crate::output;

/// The devices' script.
const DEVICES: &str = include_str!("devices.py");

/// Far more than any step takes: it stands for a part that does not work.
const STEP_MAX: Duration = Duration::from_secs(240);

/// Readings of a device before it is moved, and after.
const READINGS: u64 = 8;

/// What the demo is run with.
pub(super) struct ProvisioningArgs {
    pub(super) folder: PathBuf,
    pub(super) devices: u16,
    /// A Python that has `azure-iot-device`.
    pub(super) python: PathBuf,
    pub(super) output: OutputFormat,
}

/// Everything that runs while the devices send.
struct Cloud {
    emulators: Process,
    provisioner: Process,
    consumers: Vec<Process>,
}

pub(super) fn run(args: &ProvisioningArgs) -> Result<(), Failure> {
    check_python(&args.python)?;
    let folder = Folder::new(args.folder.clone());
    let devices = folder::devices(args.devices);
    let cannot_write = |cause| Failure::failed("the demo's files cannot be written", cause);
    folder.write().map_err(cannot_write)?;
    output::note(&format!(
        "every file and log is in {}",
        folder.root().display()
    ));

    check_catalogue(&folder)?;
    let mut cloud = Cloud::start(&folder)?;
    let (mut script, lines) = start_devices(&folder, &devices, &args.python)?;
    let mut ledger = Ledger::default();
    let all = |ledger: &Ledger, is: &dyn Fn(&Known) -> bool| {
        ledger.devices.len() == devices.len() && ledger.devices.values().all(is)
    };
    ledger.follow(
        &lines,
        ("telemetry of every device in test", STEP_MAX),
        || cloud.check_running().and_then(|()| script.check_running()),
        |ledger| all(ledger, &|known| known.sent >= READINGS),
    )?;
    output::note(&format!("{} devices send to the test stamp", devices.len()));

    let mut mover = start_move(&folder, &devices)?;
    let is_there = |known: &Known| known.hub != folder.hub(0) && known.sent_here >= READINGS;
    ledger.follow(
        &lines,
        ("telemetry of every device in production", STEP_MAX),
        || {
            mover.0.check_not_failed()?;
            cloud.check_running().and_then(|()| script.check_running())
        },
        |ledger| all(ledger, &is_there),
    )?;
    let moved = finish_move(mover)?;
    output::note(
        "every device was rejected by the test hub, registered again and sends to production",
    );

    script.close_input();
    ledger.finish(&lines, STEP_MAX)?;
    script.finish()?;
    cloud.check_running()?;
    let sent: u64 = ledger.devices.values().map(|known| known.sent).sum();
    let story = crate::runtime()?.block_on(async {
        settle(&folder, sent).await?;
        report::compare(&folder, &ledger).await
    })?;
    cloud.stop(&folder)?;
    tell(args.output, &story, &moved)?;
    match story.differences() {
        0 => Ok(()),
        differences => Err(Failure::Difference(differences)),
    }
}

/// Without the client no device can be run, so this is found out before anything is started.
fn check_python(python: &Path) -> Result<(), Failure> {
    let found = Command::new(python)
        .args(["-c", "import azure.iot.device"])
        .output();
    if found.is_ok_and(|out| out.status.success()) {
        return Ok(());
    }
    Err(Failure::because(format!(
        "{} has no package azure-iot-device: install it (python3 -m venv demo-venv && demo-venv/bin/pip install \
         azure-iot-device==2.14.0) and name it with --python demo-venv/bin/python",
        python.display()
    )))
}

/// A mistake in the catalogue is found here, and not in the log of a process.
fn check_catalogue(folder: &Folder) -> Result<(), Failure> {
    let arguments = ["fleet", "validate", "fleet.toml"];
    Process::start("validate", folder.root(), &arguments)?.finish()
}

impl Cloud {
    fn start(folder: &Folder) -> Result<Self, Failure> {
        let root = folder.root();
        let arguments = ["emulate", "--config", "emulators.toml"];
        let (mut emulators, lines) = Process::start_read("emulators", root, &arguments)?;
        let told = told(&mut emulators, &lines)?;
        let connection_string = |kind: &str, name: &str| {
            let is = |line: &&[String; 3]| line[0] == kind && line[1] == name;
            told.iter().find(is).map(|line| line[2].clone())
        };
        folder
            .write_services(connection_string)
            .map_err(|cause| Failure::failed("the demo's files cannot be written", cause))?;
        let provisioner = Process::start(
            "provision",
            root,
            &["provision", "--config", "provision.toml"],
        )?;
        let consumer = |id: &str| {
            let config = format!("{id}.toml");
            Process::start(id, root, &["consume", "--config", config.as_str()])
        };
        let consumers = STAMPS.iter().map(|stamp| consumer(stamp.id));
        Ok(Self {
            emulators,
            provisioner,
            consumers: consumers.collect::<Result<_, _>>()?,
        })
    }

    fn check_running(&mut self) -> Result<(), Failure> {
        let others = [&mut self.emulators, &mut self.provisioner];
        let mut all = self.consumers.iter_mut().chain(others);
        all.try_for_each(Process::check_running)
    }

    /// Stops the consumers, recounts each stamp against its hub, and ends the rest.
    fn stop(self, folder: &Folder) -> Result<(), Failure> {
        self.consumers.into_iter().try_for_each(Process::stop)?;
        for stamp in &STAMPS {
            let config = format!("{}.toml", stamp.id);
            let name = format!("verify-{}", stamp.id);
            Process::start(
                &name,
                folder.root(),
                &["verify", "--config", config.as_str()],
            )?
            .finish()?;
        }
        self.provisioner.stop()?;
        self.emulators.stop()
    }
}

/// How the emulators are reached: kind, name, connection string.
fn told(emulators: &mut Process, lines: &Lines) -> Result<Vec<[String; 3]>, Failure> {
    let until = Instant::now() + STEP_MAX;
    let mut told: Vec<[String; 3]> = Vec::new();
    // The DPS's is the last line.
    while told.last().is_none_or(|line| line[0] != "dps") {
        let Some(line) = lines.next(until) else {
            emulators.check_running()?;
            return Err(Failure::because(
                "the emulators did not say how they are reached",
            ));
        };
        let words: Vec<String> = line.splitn(3, '\t').map(str::to_owned).collect();
        told.extend(words.try_into().ok());
    }
    Ok(told)
}

fn start_devices(
    folder: &Folder,
    devices: &[DemoDevice],
    python: &Path,
) -> Result<(Process, Lines), Failure> {
    let pairs: Vec<[&str; 2]> = devices
        .iter()
        .map(|device| [device.id.as_str(), &device.key])
        .collect();
    let settings = json!({
        "dps": folder.dps().to_string(),
        "scope": SCOPE,
        "ca": "ca.pem",
        "pause_s": 0.5,
        "devices": pairs,
    });
    output::note(&format!("$ python devices.py  # {} devices", devices.len()));
    let mut command = Command::new(python);
    command.args(["-u", "devices.py"]).arg(settings.to_string());
    Process::spawn_read("devices", folder.root(), command)
}

fn start_move(folder: &Folder, devices: &[DemoDevice]) -> Result<(Process, Lines), Failure> {
    let list: String = devices
        .iter()
        .map(|device| format!("{}\n", device.id))
        .collect();
    fs::write(folder.path("devices.txt"), list)
        .map_err(|cause| Failure::failed("the list of devices cannot be written", cause))?;
    Process::start_read(
        "move",
        folder.root(),
        &[
            "device",
            "move",
            "--fleet",
            "fleet.toml",
            "--from",
            STAMPS[0].id,
            "--place",
            "--file",
            "devices.txt",
            "--services",
            "services.toml",
            "--keep-source",
            "0s",
            "--look-every",
            "1s",
            "--output",
            "json",
        ],
    )
}

/// The mover's report. It ends with exit code 5 when that has differences.
fn finish_move((mover, lines): (Process, Lines)) -> Result<Value, Failure> {
    let text = lines.rest(STEP_MAX).join("\n");
    mover.finish()?;
    serde_json::from_str(&text)
        .map_err(|cause| Failure::failed("the mover's report cannot be read", cause))
}

/// Waits until the tables have as many readings as the hubs have confirmed.
async fn settle(folder: &Folder, sent: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + STEP_MAX;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let found = report::count(folder).await?;
        if found >= sent {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::because(format!(
                "{found} of {sent} readings are in the tables after {STEP_MAX:?}"
            )));
        }
    }
}

fn tell(format: OutputFormat, story: &Story, moved: &Value) -> Result<(), Failure> {
    match format {
        OutputFormat::Json => print_json(&json!({ "story": story, "move": moved })),
        OutputFormat::Text => {
            report::print(story);
            output::line(&format!(
                "the mover says: {}",
                moved["verdict"].as_str().unwrap_or("nothing")
            ));
            Ok(())
        }
    }
}
