//! `config`: what an operator writes, a stamp's configuration and a connection string.

use std::path::Path;

use stamp_consumer::{ConfigError, ConsumerConfig, chain};
use stamp_eventhubs::wire::ConnectionString;

use crate::input::Input;

/// One try: 0 and a configuration file, 1 and a connection string, or 2 and the parts of one.
///
/// # Panics
/// When a promise is broken.
pub fn config(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte() % 3;
    let text = String::from_utf8_lossy(input.0);
    match mode {
        0 => check_file(&text),
        1 => check_connection_string(&text),
        _ => {
            let parts: Vec<_> = input
                .pieces(5)
                .map(|piece| String::from_utf8_lossy(piece))
                .collect();
            if let [host, name, key, entity, rest] = &parts[..] {
                check_secrecy(host, name, key, entity, rest);
            }
        }
    }
}

fn parse(text: &str) -> Result<ConsumerConfig, ConfigError> {
    ConsumerConfig::parse(text, Path::new("stamp.toml"))
}

fn check_file(text: &str) {
    let config = match parse(text) {
        Ok(config) => config,
        Err(error) => {
            let told = chain(&error).to_string();
            assert!(told.contains("stamp.toml"), "no file is named: {told}");
            assert!(told.contains("line "), "no line is named: {told}");
            return;
        }
    };
    if let Err(error) = config.check() {
        let ConfigError::Value { key, why } = &error else {
            panic!("a range is no {error:?}");
        };
        assert!(!key.is_empty() && !why.is_empty());
        return;
    }
    // `--print-config` shows the configuration in force: reading it again changes nothing.
    let printed = toml::to_string(&config).expect("a configuration in force can be printed");
    let again = parse(&printed).expect("what was printed can be read");
    assert_eq!(format!("{config:?}"), format!("{again:?}"));
    for partitions in [0, 1, 32, 1_024] {
        assert!(config.consumer.tenant_buffer_bytes(partitions) > 0);
    }
    assert!(config.windows().is_ok(), "they were checked");
}

fn check_connection_string(text: &str) {
    let parse = || ConnectionString::parse("connection-string", text);
    match (parse(), parse()) {
        (Ok(first), Ok(again)) => assert_eq!(first, again),
        (Err(error), Err(_)) => assert!(!error.to_string().is_empty()),
        (first, again) => panic!("{first:?}, then {again:?}"),
    }
}

/// The key is shown by nothing, whether the connection string is good or not. It is marked, so that
/// no other part and no word of a message can be taken for it.
fn check_secrecy(host: &str, name: &str, key: &str, entity: &str, rest: &str) {
    const MARK: char = '\u{2620}';
    let others = [host, name, entity, rest];
    if key.contains(';') || others.iter().any(|part| part.contains(MARK)) {
        return;
    }
    let text = format!(
        "Endpoint=sb://{host}/;SharedAccessKeyName={name};SharedAccessKey={MARK}{key}{MARK};EntityPath={entity};{rest}"
    );
    let shown = match ConnectionString::parse("connection-string", &text) {
        Ok(parsed) => format!("{parsed:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(MARK), "the key is shown: {shown}");
}
