use super::*;

const LEAST: &str = "fleet = \"fleet\"\nlisten = \"127.0.0.1:0\"\n\
    access.keys-env = \"KEYS\"\nreservations.url = \"sqlite:fleet.db\"\n";

fn parse(text: &str) -> Result<ProvisionConfig, ConfigError> {
    let config = ProvisionConfig::parse(text, Path::new("provision.toml"))?;
    config.check()?;
    Ok(config)
}

#[test]
fn the_least_configuration_has_the_defaults_and_prints_as_it_is() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.http, ServerConfig::default());
    assert_eq!(config.telemetry, TelemetryConfig::default());
    let printed = toml::to_string(&config).unwrap();
    let again = parse(&printed).unwrap();
    assert_eq!(toml::to_string(&again).unwrap(), printed);
}

#[test]
fn what_is_out_of_range_or_contradicts_is_named() {
    for (more, key) in [
        ("access.keys-file = \"keys\"\n", "access.keys-file"),
        ("http.connections-max = 0\n", "http.connections-max"),
        ("http.body-max = \"1B\"\n", "http.body-max"),
        ("http.request-max = \"1ms\"\n", "http.request-max"),
        ("resilience.look-every = \"1h\"\n", "resilience.look-every"),
        (
            "reservations.connections-max = 65\n",
            "reservations.connections-max",
        ),
        (
            "resilience.reservations.attempts-max = 0\n",
            "resilience.reservations",
        ),
        (
            "reserve = { share = 0.9, replicas = 1, journal = \"j\" }\n",
            "reserve.share",
        ),
        (
            "reserve = { share = nan, replicas = 1, journal = \"j\" }\n",
            "reserve.share",
        ),
        (
            "reserve = { share = 0.1, replicas = 0, journal = \"j\" }\n",
            "reserve.replicas",
        ),
    ] {
        let error = parse(&format!("{LEAST}{more}")).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Value { key: named, .. } if named == key),
            "{more}: {error:?}"
        );
    }
    let nobody = parse(&LEAST.replace("access.keys-env = \"KEYS\"\n", "")).unwrap_err();
    assert!(nobody.to_string().starts_with("access: nobody"), "{nobody}");
    let unknown = parse(&format!("{LEAST}fleets = 1\n")).unwrap_err();
    assert!(matches!(unknown, ConfigError::Syntax { .. }));
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provision.toml");
    let reserve = "reserve = { share = 0.02, replicas = 2, journal = \"reserve.jsonl\" }\n";
    std::fs::write(&path, format!("{LEAST}{reserve}")).unwrap();
    let config = ProvisionConfig::load(&path).unwrap();
    assert_eq!(config.fleet, folder.path().join("fleet"));
    assert_eq!(
        config.reserve.unwrap().journal,
        folder.path().join("reserve.jsonl")
    );
}

#[test]
fn the_example_is_a_good_configuration() {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/provision.toml");
    let config = ProvisionConfig::load(&example).unwrap();
    crate::read_catalogue(&config.fleet).unwrap();
}
