//! PostgreSQL, one server a test, in a folder of its own, on a Unix socket.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// Longest start: it takes a second on a quiet machine, and tests share the machine with builds.
const START_MAX: Duration = Duration::from_secs(120);
/// How the line ends that the server prints once it accepts connections.
const READY: &str = "database system is ready to accept connections";
/// Name of the socket below the folder that a client's URL names, for the default port.
const SOCKET: &str = ".s.PGSQL.5432";
/// Where Debian and its kin keep the programs, which are not on everybody's path.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The one role, and its password.
const USER: &str = "stamp";
const PASSWORD: &str = "not a secret";

/// A running server; dropping it ends the process and removes the folder.
#[derive(Debug)]
pub struct Postgres {
    folder: tempfile::TempDir,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a database and starts the server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not come up; the message holds what it printed.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        // A short path: that of a socket has at most 107 bytes.
        let folder = tempfile::Builder::new()
            .prefix("pg")
            .tempdir()
            .expect("a folder");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("write the password's file");
        if let Some((user, group)) = server_account() {
            for path in [folder.path(), &password] {
                chown(path, Some(user), Some(group)).expect("give the folder to the server");
            }
        }
        let mut init = program("initdb");
        init.arg("--pgdata").arg(folder.path().join("data"));
        init.args([
            "--username",
            USER,
            "--auth",
            "scram-sha-256",
            "--no-sync",
            "--no-instructions",
        ]);
        init.arg("--pwfile").arg(&password);
        let made = init
            .current_dir(folder.path())
            .output()
            .expect("run initdb");
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut postgres = Self {
            folder,
            server: None,
        };
        postgres.restart();
        postgres
    }

    /// Ends the server in the middle of whatever it does: nothing is written any more, and the next
    /// start has to recover from the log (PostgreSQL's immediate shutdown).
    ///
    /// A kill of the first process alone would leave the others running on its memory for a moment.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let pid = server.id().to_string();
            // Already gone is what we want.
            let _gone = Command::new("kill").args(["-QUIT", &pid]).output();
            let _reaped = server.wait();
        }
    }

    /// Starts the server on what is in the folder.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let data = self.folder.path().join("data");
        let mut server = program("postgres");
        server
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(self.folder.path());
        server.args(["-c", "listen_addresses=", "-c", "shared_buffers=16MB"]);
        let mut child = server
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start postgres");
        let stderr = child.stderr.take().expect("stderr is piped");
        // From here on a panic drops the guard, which ends the process.
        self.server = Some(child);
        let (sender, ready) = sync_channel(1);
        std::thread::spawn(move || watch(stderr, &sender));
        match ready.recv_timeout(START_MAX) {
            Ok(Ok(())) => {}
            Ok(Err(printed)) => panic!("postgres ended:\n{printed}"),
            Err(error) => panic!("postgres did not start: {error}"),
        }
    }

    /// What clients take, without the password.
    #[must_use]
    pub fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://{USER}@localhost/postgres?host={folder}")
    }

    /// The server's socket, for something that stands between it and its clients.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// A file that holds the password.
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The account that the server runs as, where we are root: it refuses to be root itself.
fn server_account() -> Option<(u32, u32)> {
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let account = id(&["-u", "postgres"]).zip(id(&["-g", "postgres"]));
    Some(account.expect("as root, PostgreSQL needs an account `postgres` to run as"))
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// One of PostgreSQL's programs, as the account that may run it.
#[track_caller]
fn program(name: &str) -> Command {
    let path = find(name).unwrap_or_else(|| {
        panic!(
            "no `{name}` of PostgreSQL, neither on the path nor below {DEBIAN}: `cargo xtask test` \
             installs it as root on Debian or Ubuntu; elsewhere install PostgreSQL"
        )
    });
    if server_account().is_none() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg("--pdeathsig=KILL").arg(path);
    command
}

fn find(name: &str) -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    let versions = std::fs::read_dir(DEBIAN).ok();
    let versions = versions.into_iter().flatten().filter_map(Result::ok);
    folders.extend(versions.map(|version| version.path().join("bin")));
    let paths = folders.iter().map(|folder| folder.join(name));
    paths.into_iter().find(|path: &PathBuf| Path::is_file(path))
}

/// Reads what the server prints to its end, so that it never blocks on a full pipe, and says once
/// whether it is ready.
fn watch(stderr: impl Read, ready: &SyncSender<Result<(), String>>) {
    const LINES_MAX: usize = 50;
    let mut printed = Vec::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.ends_with(READY) {
            let _already_known = ready.try_send(Ok(()));
        }
        if printed.len() < LINES_MAX {
            printed.push(line);
        }
    }
    let _already_known = ready.try_send(Err(printed.join("\n")));
}
