//! Azurite's blob service, one process a test, in memory, on a free loopback port.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::script::{Language, run_script};

/// The account that Azurite always has (Azurite's documentation, "Storage Accounts").
pub const ACCOUNT_NAME: &str = "devstoreaccount1";

/// Its well-known key: not a secret (same source).
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Longest start: it takes 3 seconds on a quiet machine, and tests share the machine with builds.
const START_MAX: Duration = Duration::from_secs(120);
const CONTAINER_MAX: Duration = Duration::from_secs(120);
/// How the line begins that Azurite prints once it accepts connections.
const LISTENS: &str = "successfully listens on ";
const LINES_MAX: usize = 50;

/// A running blob service; dropping it ends the process and, with it, the data.
#[derive(Debug)]
pub struct Azurite {
    child: Child,
    port: u16,
    lines: Lines,
}

/// The last lines the service printed, for messages.
type Lines = Arc<Mutex<VecDeque<String>>>;

impl Azurite {
    /// Starts the service and returns once it accepts connections.
    ///
    /// # Panics
    /// When the tools are not installed, or the service does not come up; the message holds what
    /// it printed.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let program = crate::node_modules().join("azurite/dist/src/blob/main.js");
        let mut child = Command::new(crate::node())
            .arg(program)
            // Port 0: the system picks a free one, so tests side by side never meet.
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"])
            .args(["--disableTelemetry", "--skipApiVersionCheck"])
            .args(["--inMemoryPersistence", "--extentMemoryLimit", "2048"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("start Azurite with node: {error}"));
        let lines = Lines::default();
        let (sender, port) = sync_channel(1);
        let stdout = child.stdout.take().expect("stdout is piped");
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || watch(stdout, &kept, &sender));
        // From here on a panic drops the guard, which ends the process.
        let mut azurite = Self {
            child,
            port: 0,
            lines,
        };
        match port.recv_timeout(START_MAX) {
            Ok(port) => azurite.port = port,
            Err(error) => panic!("Azurite did not start ({error}):\n{}", azurite.printed()),
        }
        azurite
    }

    /// The account's name.
    #[must_use]
    pub fn account_name(&self) -> &'static str {
        ACCOUNT_NAME
    }

    /// The account's key, base64.
    #[must_use]
    pub fn account_key(&self) -> &'static str {
        ACCOUNT_KEY
    }

    /// The loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The blob endpoint with the account, without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT_NAME}", self.port)
    }

    /// Where the service listens, for a [`FaultProxy`](crate::FaultProxy) in front of it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The blob endpoint as it is behind `proxy`.
    #[must_use]
    pub fn endpoint_behind(&self, proxy: &crate::FaultProxy) -> String {
        format!("http://{}/{ACCOUNT_NAME}", proxy.address())
    }

    /// What the Azure clients take.
    #[must_use]
    pub fn connection_string(&self) -> String {
        format!(
            "DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};AccountKey={ACCOUNT_KEY};\
             BlobEndpoint={};",
            self.endpoint()
        )
    }

    /// Creates a container: 3 to 63 characters of `a-z`, `0-9` and `-`.
    ///
    /// # Panics
    /// When the service refuses, an existing container among the reasons.
    #[track_caller]
    pub fn create_container(&self, name: &str) {
        let created = run_script(
            Language::Python,
            "scripts/create_container.py",
            &[&self.connection_string(), name],
            CONTAINER_MAX,
        );
        assert_eq!(created["created"][0], name, "Azurite answered {created}");
    }

    fn printed(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        // Already gone is what we want; waiting leaves no zombie behind.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Reads what the service prints to its end, so that it never blocks on a full pipe, and reports
/// the port once.
fn watch(stdout: impl Read, lines: &Lines, port: &SyncSender<u16>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(found) = listening_port(&line) {
            let _already_known = port.try_send(found);
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

fn listening_port(line: &str) -> Option<u16> {
    let (_, address) = line.split_once(LISTENS)?;
    let (_, port) = address.trim().rsplit_once(':')?;
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::listening_port;

    #[test]
    fn the_port_is_read_from_the_line_that_names_it() {
        let line = "Azurite Blob service successfully listens on http://127.0.0.1:46039";

        assert_eq!(listening_port(line), Some(46_039));
        assert_eq!(
            listening_port("Azurite Blob service is starting on 127.0.0.1:0"),
            None
        );
    }
}
