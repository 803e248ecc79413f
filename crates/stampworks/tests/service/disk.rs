//! A stamp on a local folder whose disk is full.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::Service;
use crate::stamp::{EAGER, ENVIRONMENT, SOON, Stamp, until, verify};
use crate::support::{
    assert_tables, emulator, expected_up_to, publish_noted, read_tables, write_config,
};
use stamp_lake::{Lake, StoreConfig};
use stamp_model::PartitionId;

/// A disk of its own, in memory, mounted where only the processes of its namespace see it. Needs
/// no privilege where the kernel lets users make namespaces.
struct SmallDisk {
    holder: Child,
    folder: PathBuf,
}

impl SmallDisk {
    #[track_caller]
    fn mount(folder: &Path, size: &str) -> Self {
        let script = "mount -t tmpfs -o size=\"$2\" tmpfs \"$1\" && echo mounted && exec cat";
        let mut holder = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(folder)
            .arg(size)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("run `unshare` of util-linux: {error}"));
        let mut said = String::new();
        let stdout = holder.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(
            said.trim(),
            "mounted",
            "a small disk cannot be mounted here: this test needs user namespaces \
             (sysctl kernel.unprivileged_userns_clone=1, or a container that allows `unshare -rm`)"
        );
        Self {
            holder,
            folder: folder.to_owned(),
        }
    }

    /// A command that runs where the disk is mounted.
    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.holder.id().to_string()])
            .args(["--user", "--mount", "--preserve-credentials", "--"])
            .arg(env!("CARGO_BIN_EXE_stampworks"));
        command
    }

    /// The disk as this process, which does not have it mounted, reaches it.
    fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder.strip_prefix("/").unwrap())
    }

    /// Writes until there is no room for a byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.outside().join("filler")).unwrap();
        for size in [65_536, 512, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.outside().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Fault scenario 24.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_the_rows_at_the_hub_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk_folder = folder.path().join("disk");
    std::fs::create_dir(&disk_folder).unwrap();
    let disk = SmallDisk::mount(&disk_folder, "24m");
    let emulator = emulator(2).await;
    let hub = emulator.hub("telemetry").unwrap();
    let store = format!("url = \"file://{}/tables\"", disk_folder.display());
    let endpoint = format!("amqp://{}", emulator.address());
    let config = write_config(
        folder.path(),
        &endpoint,
        &store,
        &format!("[consumer]\n{EAGER}{SOON}"),
    );
    let outside = StoreConfig::new(format!("file://{}/tables", disk.outside().display()));
    let lake = Lake::open(&outside, tokio::runtime::Handle::current()).unwrap();
    let settled = async || {
        let checkpoints = lake.checkpoints("127.0.0.1", "telemetry", "$Default");
        for number in 0..2 {
            let at = checkpoints
                .read(PartitionId::new(number).unwrap())
                .await
                .unwrap();
            if at.is_none_or(|at| at.sequence < hub.last_sequence(number)) {
                return false;
            }
        }
        true
    };
    (0..400).for_each(|number| publish_noted(&hub, number, 100));
    let mut service = Service::start_by::<&str>(disk.command(), &config, &[]);
    until("the first rows are settled", settled).await;

    disk.fill();
    (400..1_200).for_each(|number| publish_noted(&hub, number, 100));
    let given_up = || service.metric("stamp_retry_give_ups_total", &[("peer", "store.contoso")]);
    until("flushes are given up", async || given_up() >= 3.0).await;
    assert!(service.is_running(), "{}", service.log());
    assert!(!settled().await, "nothing can have been written");
    let rested = service.metric("stamp_retry_pause_seconds_count", &[("cause", "rest")]);
    assert!(rested > 0.0, "given up without a rest is a loop");
    assert!(
        service.log().contains("os error 28"),
        "no word of the disk:\n{}",
        service.log()
    );

    disk.empty();
    until("everything is settled", settled).await;
    service.watch(Duration::ZERO);
    service.stop();
    let copied = folder.path().join("copied");
    let copy = Command::new("cp")
        .arg("-r")
        .arg(disk.outside())
        .arg(&copied)
        .status();
    assert!(copy.unwrap().success());
    let copied = StoreConfig::new(format!("file://{}/tables", copied.display()));
    let lake = Lake::open(&copied, tokio::runtime::Handle::current()).unwrap();
    let last: Vec<i64> = (0..2).map(|number| hub.last_sequence(number)).collect();
    assert_tables(&read_tables(&lake).await, &expected_up_to(&last));
    let (code, printed) = verify(disk.command(), &config).await;
    assert_eq!(code, Some(0), "{printed}");
    emulator.stop().await;
}

/// Fault scenario 24.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let mut stamp = Stamp::new(2).await;
    stamp.publish(200);
    let config = stamp.config("s-1", &format!("[consumer]\n{EAGER}{SOON}"));
    let mut command = Command::new("sh");
    // Every write to it fails as on a full disk.
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full"]);
    command.arg(env!("CARGO_BIN_EXE_stampworks"));
    let mut service = Service::start_by(command, &config, &ENVIRONMENT);

    until("everything is settled", async || {
        stamp.unsettled().await == 0
    })
    .await;

    service.signal("TERM");
    assert_eq!(service.exit_code(), Some(0));
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
