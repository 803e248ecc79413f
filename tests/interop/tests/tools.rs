//! The tools of the interop tests are there, are the pinned ones, and fail loudly.

use std::net::TcpStream;
use std::time::Duration;

use stamp_interop::{Azurite, Language, run_script};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn python_has_the_pinned_clients_and_readers() {
    let names = ["azure-eventhub", "deltalake", "duckdb", "polars", "pyarrow"];
    let versions = run_script(Language::Python, "scripts/versions.py", &names, MINUTE);

    let pinned = include_str!("../requirements.txt");
    for name in names {
        let pin = format!("{name}=={}\n", versions[name].as_str().unwrap());
        assert!(pinned.contains(&pin), "{pin} is not in requirements.txt");
    }
}

#[test]
fn node_has_the_pinned_client() {
    let versions = run_script(
        Language::Node,
        "scripts/versions.cjs",
        &["@azure/event-hubs"],
        MINUTE,
    );

    let pinned: serde_json::Value = serde_json::from_str(include_str!("../package.json")).unwrap();
    assert_eq!(
        versions["@azure/event-hubs"],
        pinned["dependencies"]["@azure/event-hubs"]
    );
}

#[test]
fn azurite_takes_containers_and_ends_with_its_guard() {
    let azurite = Azurite::start();
    let address = ("127.0.0.1", azurite.port());
    azurite.create_container("tables");
    assert!(TcpStream::connect(address).is_ok());

    drop(azurite);

    assert!(TcpStream::connect(address).is_err());
}

#[test]
#[should_panic(expected = "ContainerAlreadyExists")]
fn a_script_that_fails_shows_what_it_printed() {
    let azurite = Azurite::start();
    azurite.create_container("tables");

    azurite.create_container("tables");
}

#[test]
#[should_panic(expected = "was killed after 500ms")]
fn a_script_that_hangs_is_killed_at_its_time_limit() {
    let limit = Duration::from_millis(500);

    let _never = run_script(Language::Python, "scripts/hang.py", &[], limit);
}
