//! The container image: what `cargo xtask image` writes, and the service started from it as a cluster would.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::process::{Service, http_get};
use crate::stamp::{EAGER, ENVIRONMENT, Stamp};

/// The name by which the service is told of its store, so that it has to look a name up: there is no other
/// than the node's file that has it. Azurite takes a name that has dots for an account's.
const STORE_NAME: &str = "localhost";
/// Not root, and not a user of this machine.
const USER: &str = "65532";

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds the image into a folder of this test. The binary is built as the tests are, so that its libraries
/// are those of the tests; a release is built with the profile `dist`.
#[track_caller]
fn build(name: &str) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = Command::new(env!("CARGO"));
    command.args(["xtask", "image", "--profile", "dev", "--out"]);
    command.arg(&out).current_dir(source());
    // What cargo told this test about its own package would make it build the libraries again.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    out
}

/// The image of a layout, every blob checked against its digest and size, as a registry's client does.
struct Layout {
    folder: PathBuf,
    manifest: Value,
    config: Value,
}

impl Layout {
    #[track_caller]
    fn read(folder: PathBuf) -> Self {
        let layout: Value = json(&fs::read(folder.join("oci-layout")).unwrap());
        assert_eq!(layout["imageLayoutVersion"], "1.0.0");
        let index: Value = json(&fs::read(folder.join("index.json")).unwrap());
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
        let manifest = json(&blob(&folder, &index["manifests"][0]));
        let config = json(&blob(&folder, &manifest["config"]));
        Self {
            folder,
            manifest,
            config,
        }
    }

    /// Unpacks the layers, one over the other, as a container runtime does.
    #[track_caller]
    fn unpack(&self, root: &Path) {
        let layers = self.manifest["layers"].as_array().unwrap();
        let ids = self.config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(layers.len(), ids.len());
        for (layer, id) in layers.iter().zip(ids) {
            let packed = blob(&self.folder, layer);
            let mut plain = Vec::new();
            let mut unpacked = flate2::read::GzDecoder::new(packed.as_slice());
            unpacked.read_to_end(&mut plain).unwrap();
            assert_eq!(*id, digest(&plain));
            let mut archive = tar::Archive::new(plain.as_slice());
            archive.set_preserve_permissions(true);
            archive.unpack(root).unwrap();
        }
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[track_caller]
fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
    let named = descriptor["digest"].as_str().unwrap();
    let path = folder.join("blobs").join(named.replace(':', "/"));
    let bytes = fs::read(path).unwrap();
    assert_eq!(digest(&bytes), named);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

/// A folder of its own with the root of the image in it, and what a cluster lays over it.
struct Root {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Root {
    fn new(layout: &Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root");
        fs::create_dir(&path).unwrap();
        layout.unpack(&path);
        Self {
            _folder: folder,
            path,
        }
    }

    /// Adds what a node adds to every container: the place of /proc and the file of names.
    fn on_a_node(self) -> Self {
        fs::create_dir(self.path.join("proc")).unwrap();
        let names = format!("127.0.0.1 {STORE_NAME}\n");
        fs::write(self.path.join("etc/hosts"), names).unwrap();
        fs::create_dir(self.path.join("etc/stampworks")).unwrap();
        self
    }

    /// A command that runs the image's own program as its own user, with the root read-only and `config` at
    /// /etc/stampworks. The mounts are seen by it alone and are gone when it ends.
    fn command(&self, program: &str, config: &Path) -> Command {
        let script = r#"set -e
            root=$1; config=$2; program=$3; user=$4; shift 4
            mount --bind "$root" "$root"
            mount -t proc proc "$root/proc"
            mount --bind "$config" "$root/etc/stampworks"
            mount -o remount,bind,ro "$root/etc/stampworks"
            mount -o remount,bind,ro "$root"
            if touch "$root/etc/written" 2>/dev/null; then echo "the root can be written" >&2; exit 1; fi
            exec setpriv --no-new-privs chroot --userspec="$user:$user" "$root" "$program" "$@""#;
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        let arguments: [&OsStr; 4] = [
            self.path.as_os_str(),
            config.as_os_str(),
            program.as_ref(),
            USER.as_ref(),
        ];
        command.args(arguments).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
    }
}

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut work = vec![folder.to_owned()];
    while let Some(at) = work.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                work.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                files.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn the_image_holds_the_program_and_what_it_needs_and_nothing_that_its_user_could_write() {
    let out = build("image-contents");
    let layout = Layout::read(out.join("oci"));
    let root = Root::new(&layout);

    let found = files(&root.path);
    let libraries = [
        "libc.so.6",
        "libm.so.6",
        "libgcc_s.so.1",
        "ld-linux-x86-64.so.2",
    ];
    let (system, own): (BTreeSet<_>, BTreeSet<_>) =
        found.iter().partition(|path| path.starts_with("lib"));
    let own: Vec<&str> = own.iter().map(|path| path.as_str()).collect();
    assert_eq!(
        own,
        [
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "etc/ssl/certs/ca-certificates.crt",
            "usr/local/bin/stampworks",
            "usr/share/doc/stampworks/LICENSE-APACHE",
            "usr/share/doc/stampworks/LICENSE-MIT",
            "usr/share/sbom/stampworks.cdx.json",
        ]
    );
    for path in &system {
        let name = path.rsplit('/').next().unwrap();
        assert!(libraries.contains(&name), "{path}");
    }
    for path in &found {
        let rights = fs::metadata(root.path.join(path)).unwrap().permissions();
        assert_eq!(rights.mode() & 0o022, 0, "{path} may be written");
    }
    assert_eq!(
        found,
        files(&out.join("root")),
        "the folder is what the layers are"
    );

    let authorities = fs::read_to_string(root.path.join("etc/ssl/certs/ca-certificates.crt"));
    let count = authorities
        .unwrap()
        .matches("-----BEGIN CERTIFICATE-----")
        .count();
    assert!(count > 50, "{count} authorities");
    let bill = json(&fs::read(root.path.join("usr/share/sbom/stampworks.cdx.json")).unwrap());
    let parts = bill["components"].as_array().unwrap();
    let named: BTreeSet<&str> = parts
        .iter()
        .filter_map(|part| part["name"].as_str())
        .collect();
    assert!(parts.len() > 200, "{} components", parts.len());
    for there in ["stamp-consumer", "fe2o3-amqp", "parquet"] {
        assert!(named.contains(there), "{there} is not in the bill");
    }
    for absent in ["stamp-emulator", "mqtt-protocol-core", "rcgen", "proptest"] {
        assert!(!named.contains(absent), "{absent} is in the bill");
    }
}

#[test]
fn the_same_source_gives_the_same_image_bit_for_bit_and_the_file_for_daemons_says_the_same_of_it() {
    let (first, second) = (build("image-once"), build("image-again"));
    let digests = [&first, &second].map(|out| {
        let index = json(&fs::read(out.join("oci/index.json")).unwrap());
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    });
    assert_eq!(digests[0], digests[1]);
    let archive = format!("stampworks-{}.tar", env!("CARGO_PKG_VERSION"));
    let archives = [&first, &second].map(|out| digest(&fs::read(out.join(&archive)).unwrap()));
    assert_eq!(archives[0], archives[1]);

    let layout = Layout::read(first.join("oci"));
    let config = &layout.config["config"];
    assert_eq!(config["User"], format!("{USER}:{USER}"));
    let file = fs::read_to_string(source().join("deploy/container/Containerfile")).unwrap();
    let says = |instruction: &str| {
        let mut lines = file
            .lines()
            .filter_map(|line| line.strip_prefix(instruction));
        lines
            .next_back()
            .map(|rest| rest.trim().to_owned())
            .unwrap()
    };
    assert_eq!(says("USER"), config["User"]);
    assert_eq!(says("WORKDIR"), config["WorkingDir"]);
    assert_eq!(says("STOPSIGNAL"), config["StopSignal"]);
    assert_eq!(says("ENV"), config["Env"][0]);
    assert_eq!(json(says("ENTRYPOINT").as_bytes()), config["Entrypoint"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_the_image_reads_a_stamp_as_nobody_on_a_root_that_it_cannot_write() {
    let out = tokio::task::spawn_blocking(|| build("image-run"))
        .await
        .unwrap();
    let layout = Layout::read(out.join("oci"));
    let root = Root::new(&layout).on_a_node();
    let program = layout.config["config"]["Entrypoint"][0].as_str().unwrap();

    let mut stamp = Stamp::new(2).await;
    stamp.publish(200);
    let file = stamp.config("image", &format!("[consumer]\n{EAGER}"));
    let text = fs::read_to_string(&file).unwrap();
    let named = text.replace(
        "endpoint = \"http://127.0.0.1",
        &format!("endpoint = \"http://{STORE_NAME}"),
    );
    assert_ne!(text, named);
    fs::write(&file, named).unwrap();
    let command = root.command(program, file.parent().unwrap());
    let inside = Path::new("/etc/stampworks/stamp.toml");
    let service = Service::start_by(command, inside, &ENVIRONMENT);
    stamp.until_settled().await;

    let endpoints = service.endpoints();
    for probe in ["/livez", "/startupz", "/readyz"] {
        let answer = http_get(&endpoints, probe);
        assert!(answer.starts_with("HTTP/1.1 200"), "{probe}: {answer}");
    }
    let status = service.proc_status();
    let ids = format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}");
    assert!(status.lines().any(|line| line == ids), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    service.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;

    for absent in ["demo", "emulate", "simulate", "bench"] {
        let mut command = root.command(program, file.parent().unwrap());
        let answer = command.arg(absent).output().unwrap();
        let errors = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(2), "{absent}: {errors}");
        assert!(errors.contains("unrecognized subcommand"), "{errors}");
    }
}
