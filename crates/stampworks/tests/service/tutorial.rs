//! The tutorial's commands do what the tutorial says, as they stand there.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// The shell blocks of part 2, as one script.
fn script() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tutorial.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut script = String::from("set -euo pipefail\nset -m\n");
    for block in page.split("\n```sh\n").skip(1) {
        let (commands, _) = block.split_once("\n```").unwrap();
        script.push_str(commands);
        script.push('\n');
    }
    script
}

#[test]
fn every_command_of_the_tutorial_runs_and_nothing_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    // Two free ports instead of the usual ones, which another test may have.
    let free = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (hub, metrics) = (free(), free());
    let ports = [&hub, &metrics].map(|taken| taken.local_addr().unwrap().port());
    drop((hub, metrics));
    let script = script()
        .replace("127.0.0.1:5672", &format!("127.0.0.1:{}", ports[0]))
        .replace(
            "[telemetry]\n",
            &format!("[telemetry]\nlisten = \"127.0.0.1:{}\"\n", ports[1]),
        );
    let program = Path::new(env!("CARGO_BIN_EXE_stampworks"));
    let python = stamp_interop::python();
    let path = std::env::join_paths(
        [program.parent().unwrap(), python.parent().unwrap()]
            .map(Path::to_path_buf)
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );

    let out = Command::new("timeout")
        .args(["--kill-after=5", "120", "bash", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path.unwrap())
        .output()
        .unwrap();

    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&out.stdout);
    let log = std::fs::read_to_string(folder.path().join("service.log")).unwrap_or_default();
    assert!(out.status.success(), "{said}\n{}\n{log}", text(&out.stderr));
    for press in 0..4 {
        let row = said
            .lines()
            .find(|line| line.contains(&format!("press-{press} ")));
        assert!(
            row.is_some_and(|row| row.contains("100")),
            "press-{press}: {said}"
        );
    }
    for word in [
        "402 messages sent",
        "out_of_range",
        "unknown_tenant",
        "stranger",
        "0 problems",
    ] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}
