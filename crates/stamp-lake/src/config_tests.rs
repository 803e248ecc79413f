use super::*;

fn parse(text: &str) -> Result<StoreConfig, String> {
    let config: StoreConfig = toml::from_str(text).map_err(|error| error.to_string())?;
    config
        .validate()
        .map_err(|error| error.to_string())
        .map(|()| config)
}

fn check_refused(text: &str, names: &str) {
    let error = parse(text).unwrap_err();
    assert!(error.contains(names), "{error:?} does not name {names:?}");
}

#[test]
fn a_url_names_its_store() {
    let place = |url: &str| StoreConfig::new(url).place().unwrap();
    assert_eq!(
        place("file:///data/a%20b"),
        Place::Folder("/data/a b".into())
    );
    assert_eq!(place("memory:"), Place::Memory);
    assert_eq!(
        place("az://contoso/telemetry/stamp-01/x/"),
        Place::Azure {
            account: "contoso".into(),
            container: "telemetry".into(),
            prefix: "stamp-01/x".into(),
        }
    );
}

#[test]
fn a_wrong_key_is_named() {
    check_refused("url = 'file:///x'\nurll = 1", "urll");
    check_refused("url = 'nowhere'", "url");
    check_refused("url = 's3://bucket'", "s3");
    check_refused("url = 'file:///a/b%25c'", "percent");
    check_refused("url = 'az://contoso/t/a b'\nsas-env = 'S'", "prefix");
    check_refused("url = 'az://contoso'", "az://account/container");
    check_refused("url = 'az://contoso/telemetry'", "exactly one of");
    check_refused(
        "url = 'az://contoso/telemetry?sig=abc'\nsas-env = 'S'",
        "sas-env",
    );
    check_refused(
        "url = 'az://contoso/t'\nsas-env = 'S'\nworkload-identity = true",
        "exactly one of",
    );
    check_refused("url = 'memory:'\nsas-env = 'S'", "sas-env");
    check_refused("url = 'memory:'\nrequest-timeout = '60'", "request-timeout");
    check_refused("url = 'memory:'\nrequest-timeout = '0s'", "request-timeout");
}

#[test]
fn a_signature_in_a_wrong_place_is_not_repeated_in_the_error() {
    let error = parse("url = 'az://contoso/t?sig=SECRET'\nsas-env = 'S'").unwrap_err();
    assert!(!error.contains("SECRET"), "{error}");
}

#[test]
fn what_is_printed_can_be_read_again() {
    let config = parse("url = 'az://contoso/t'\nsas-env = 'S'\nrequest-timeout = '90s'").unwrap();
    let printed = toml::to_string(&config).unwrap();
    assert_eq!(parse(&printed).unwrap(), config);
}
