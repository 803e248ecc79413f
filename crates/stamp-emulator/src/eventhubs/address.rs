//! Link addresses: which entity of the namespace a client means.

/// What a link's address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Cbs,
    Management,
    /// A hub: the service picks the partition.
    Hub {
        hub: String,
    },
    /// One partition, to send to.
    Partition {
        hub: String,
        partition: String,
    },
    /// One partition as a consumer group sees it, to receive from.
    Receiver {
        hub: String,
        group: String,
        partition: String,
    },
    /// Anything else.
    Unknown(String),
}

/// Reads `[scheme://host/]path`. Entity names are matched without regard to case and come out in
/// lower case.
pub(crate) fn parse(address: &str) -> Address {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => address,
    };
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| part.to_lowercase().replace("%24", "$"))
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["$cbs"] => Address::Cbs,
        ["$management"] | [_, "$management"] => Address::Management,
        [hub] => Address::Hub {
            hub: (*hub).to_owned(),
        },
        [hub, "partitions", partition] => Address::Partition {
            hub: (*hub).to_owned(),
            partition: (*partition).to_owned(),
        },
        [hub, "consumergroups", group, "partitions", partition] => Address::Receiver {
            hub: (*hub).to_owned(),
            group: (*group).to_owned(),
            partition: (*partition).to_owned(),
        },
        _ => Address::Unknown(address.chars().take(200).collect()),
    }
}

/// The hub of a token's audience, such as `sb://localhost/hub/Partitions/1`.
pub(crate) fn audience_hub(audience: &str) -> Option<String> {
    let (_, rest) = audience.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    let hub = path.split('/').find(|part| !part.is_empty())?;
    Some(hub.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_bare_paths_name_the_same_entities() {
        let hub = || "hub".to_owned();
        let cases = [
            ("$cbs", Address::Cbs),
            ("$management", Address::Management),
            ("amqps://localhost/Hub", Address::Hub { hub: hub() }),
            ("amqps://localhost:5672/hub/", Address::Hub { hub: hub() }),
            (
                "hub/Partitions/1",
                Address::Partition {
                    hub: hub(),
                    partition: "1".into(),
                },
            ),
            (
                "amqps://localhost/hub/ConsumerGroups/$Default/Partitions/0",
                Address::Receiver {
                    hub: hub(),
                    group: "$default".into(),
                    partition: "0".into(),
                },
            ),
            (
                "/hub/consumergroups/%24Default/partitions/0",
                Address::Receiver {
                    hub: hub(),
                    group: "$default".into(),
                    partition: "0".into(),
                },
            ),
            ("hub/nothing", Address::Unknown("hub/nothing".into())),
            ("", Address::Unknown(String::new())),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn an_audience_names_its_hub() {
        for audience in [
            "sb://localhost/hub",
            "sb://localhost/Hub/$management",
            "sb://localhost/hub/Partitions/1",
            "amqps://localhost/hub/ConsumerGroups/$Default/Partitions/0",
        ] {
            assert_eq!(audience_hub(audience).as_deref(), Some("hub"), "{audience}");
        }
        assert_eq!(audience_hub("sb://localhost/"), None);
        assert_eq!(audience_hub("nonsense"), None);
    }
}
