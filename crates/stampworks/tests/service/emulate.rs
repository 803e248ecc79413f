//! `stampworks emulate --config`: a cloud on this machine that unmodified clients take for one.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stamp_interop::{Language, run_script_with};

const EXAMPLE: &str = include_str!("../../../../deploy/examples/emulators.toml");
/// Far more than a script takes: they share the machine with builds.
const SCRIPT_MAX: Duration = Duration::from_secs(300);

/// The example file at addresses that no other test uses: published clients have fixed ports.
fn example() -> String {
    let own = |n: u32| {
        Ipv4Addr::from_bits(127 << 24 | (std::process::id() << 2 | n) & 0x00ff_ffff).to_string()
    };
    let mut text = EXAMPLE.replace("partitions = 2", "partitions = 1");
    for (n, address) in ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]
        .into_iter()
        .enumerate()
    {
        let n = u32::try_from(n).unwrap();
        text = text.replace(&format!("\"{address}\""), &format!("\"{}\"", own(n)));
    }
    format!("listen = \"127.0.0.1:0\"\n{text}")
}

fn command(folder: &Path, text: &str) -> Command {
    let file = folder.join("emulators.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampworks"));
    command.args(["emulate", "--config"]).arg(file);
    command
}

/// A process that is ended with the test.
struct Emulators {
    process: Child,
    /// Kind, name and connection string.
    lines: Vec<[String; 3]>,
}

impl Emulators {
    fn start(folder: &Path, text: &str) -> Self {
        let mut process = command(folder, text)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut told = Vec::new();
        // The last line is the DPS's; there is none when it could not start.
        while told
            .last()
            .is_none_or(|[kind, ..]: &[String; 3]| kind != "dps")
        {
            let line = lines
                .next()
                .expect("the emulators ended; the ports 443 and 8883 may need a right")
                .unwrap();
            let words: Vec<String> = line.splitn(3, '\t').map(str::to_owned).collect();
            told.push(words.try_into().unwrap());
        }
        Self {
            process,
            lines: told,
        }
    }

    fn connection_string(&self, kind: &str, name: &str) -> &str {
        let line = self
            .lines
            .iter()
            .find(|[k, n, _]| (k.as_str(), n.as_str()) == (kind, name));
        &line.unwrap()[2]
    }

    fn host(&self, kind: &str, name: &str) -> String {
        let text = self.connection_string(kind, name);
        let host = text.strip_prefix("HostName=").unwrap();
        host.split_once(';').unwrap().0.to_owned()
    }
}

impl Drop for Emulators {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_device_registers_connects_and_its_message_is_in_the_event_hub() {
    let folder = tempfile::tempdir().unwrap();
    let emulators = Emulators::start(folder.path(), &example());
    let ca = folder.path().join("emulators-ca.pem");
    let ca = ca.to_str().unwrap();
    let trust = [("NODE_EXTRA_CA_CERTS", ca), ("REQUESTS_CA_BUNDLE", ca)];
    let scope = "0ne000A247E";
    let host = emulators.host("dps", scope);
    let key = "cHVtcC0xLXByaW1hcnkta2V5LTE=";

    let arguments = [host.as_str(), scope, "pump-1", key];
    let python = |script: &str, arguments: &[&str]| -> Value {
        run_script_with(Language::Python, script, arguments, &trust, SCRIPT_MAX)
    };
    let said = python("python/dps_device.py", &arguments);

    assert_eq!(said[0]["status"], "assigned", "{said}");
    assert_eq!(said[0]["hub"], emulators.host("iot-hub", "test"));
    let events = emulators.connection_string("event-hub", "test");
    let read = run_script_with(
        Language::Node,
        "node/eventhubs_receive.cjs",
        &[events, "0", "1", "0"],
        &trust,
        SCRIPT_MAX,
    );
    let event = &read["events"][0];
    assert_eq!(
        event["system"]["iothub-connection-device-id"], "pump-1",
        "{read}"
    );
    assert_eq!(event["properties"]["tenant"], "contoso", "{read}");
}

#[test]
fn a_wrong_file_of_emulators_ends_with_3_and_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, words) in [
        ("ca-file = \"emulators-ca.pem\"", "", "ca-file"),
        (
            "event-hub = \"north\"",
            "event-hub = \"south\"",
            "iot-hubs.north.event-hub",
        ),
        (
            "\"test\", \"west\"",
            "\"test\", \"east\"",
            "dps.linked-hubs",
        ),
        (
            "partitions = 1",
            "partitions = 0",
            "event-hubs.test.partitions",
        ),
        (
            "allocationPolicy = \"static\"",
            "allocationPolicy = \"near\"",
            "pump-1",
        ),
        ("id-scope", "idscope", "idscope"),
    ] {
        let text = example();
        assert!(text.contains(from), "{from}");
        let out = command(folder.path(), &text.replacen(from, to, 1))
            .output()
            .unwrap();
        let errors = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(3), "{to}: {errors}");
        assert!(errors.contains(words), "{to}: no {words:?} in {errors}");
    }
}
