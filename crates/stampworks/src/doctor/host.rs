//! This machine: memory, the address of metrics and health, and what runs there already.

use std::net::SocketAddr;
use std::path::Path;

use bytesize::ByteSize;
use stamp_consumer::ConsumerConfig;
use stamp_telemetry::{ScrapeError, scrape};
use tokio::net::TcpListener;

use super::ANSWER_MAX;
use super::finding::{Finding, Kind};

/// What a process needs beside `buffer-max`: docs/performance.md, "Memory".
const BESIDE_BUFFER: ByteSize = ByteSize::mib(192);

pub(super) async fn look(config: &ConsumerConfig) -> Vec<Finding> {
    let buffer = config.consumer.buffer_max;
    vec![
        memory(buffer, memory_limit(Path::new("/sys/fs/cgroup")), free()),
        listen(config.telemetry.listen).await,
    ]
}

/// The limit of this process's control group: version 2, then version 1.
fn memory_limit(root: &Path) -> Option<ByteSize> {
    ["memory.max", "memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|name| {
            let text = std::fs::read_to_string(root.join(name)).ok()?;
            // "max", and version 1's number close to 2^63, say that there is none.
            let bytes: u64 = text.trim().parse().ok()?;
            (bytes < 1 << 60).then_some(ByteSize::b(bytes))
        })
}

/// `MemAvailable` of the machine.
fn free() -> Option<ByteSize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize::kib(kib))
}

fn memory(buffer: ByteSize, limit: Option<ByteSize>, free: Option<ByteSize>) -> Finding {
    const WHAT: &str = "memory";
    let needed = ByteSize::b(buffer.as_u64().saturating_add(BESIDE_BUFFER.as_u64()));
    let needs = format!("up to {needed} with buffer-max = {buffer}");
    match (limit, free) {
        (Some(limit), _) if limit < needed => Finding::problem(
            Kind::Failed,
            WHAT,
            format!("{needs}, and the control group allows {limit}"),
            "lower consumer.buffer-max or raise the memory limit, or the kernel ends the process under load",
        ),
        (Some(limit), _) => {
            Finding::good(WHAT, format!("{needs}; the control group allows {limit}"))
        }
        (None, Some(free)) if free < needed => Finding::warning(
            WHAT,
            format!("{needs}, and {free} are free"),
            "lower consumer.buffer-max or run it where there is more memory",
        ),
        (None, Some(free)) => {
            Finding::good(WHAT, format!("{needs}; {free} are free, no limit is set"))
        }
        (None, None) => Finding::warning(
            WHAT,
            format!("{needs}; what this machine has is not known"),
            "compare it with the limit that the service runs under",
        ),
    }
}

/// Free, or held by this very service.
async fn listen(address: SocketAddr) -> Finding {
    const WHAT: &str = "metrics and health";
    let cause = match TcpListener::bind(address).await {
        Ok(_) => return Finding::good(WHAT, format!("{address} is free, no service runs here")),
        Err(cause) => cause,
    };
    let held = scrape(&format!("http://{address}/metrics"), address, ANSWER_MAX).await;
    let version = held.as_ref().ok().and_then(running_version);
    match version {
        Some(version) if version == env!("CARGO_PKG_VERSION") => Finding::good(
            WHAT,
            format!("a service of this version, {version}, answers at {address}"),
        ),
        Some(version) => Finding::warning(
            WHAT,
            format!(
                "the service that answers at {address} is of version {version}, this is {}",
                env!("CARGO_PKG_VERSION")
            ),
            "ask with the program that runs, so that both mean the same",
        ),
        None => Finding::problem(
            Kind::Failed,
            WHAT,
            format!(
                "{address} cannot be listened at ({cause}), and no service answers there{}",
                why(held.err())
            ),
            "set telemetry.listen to an address of this machine that is free",
        ),
    }
}

fn why(error: Option<ScrapeError>) -> String {
    error.map_or_else(String::new, |error| {
        format!(": {}", super::finding::chain(&error))
    })
}

fn running_version(said: &stamp_telemetry::Scrape) -> Option<String> {
    said.of("stamp_build_info")
        .find_map(|sample| sample.labels.get("version"))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(finding: &Finding) -> String {
        serde_json::to_string(finding).unwrap()
    }

    #[test]
    fn a_limit_below_what_the_buffer_needs_is_a_problem() {
        let finding = memory(ByteSize::mib(256), Some(ByteSize::mib(447)), None);

        assert!(said(&finding).contains("problem"), "{}", said(&finding));
        assert!(said(&finding).contains("buffer-max"));
    }

    #[test]
    fn a_limit_that_fits_is_good_whatever_is_free() {
        let free = Some(ByteSize::mib(1));

        let finding = memory(ByteSize::mib(256), Some(ByteSize::mib(448)), free);

        assert!(said(&finding).contains("good"), "{}", said(&finding));
    }

    #[test]
    fn little_free_memory_without_a_limit_is_a_warning() {
        let finding = memory(ByteSize::mib(256), None, Some(ByteSize::mib(400)));

        assert!(said(&finding).contains("warning"), "{}", said(&finding));
    }

    #[test]
    fn the_limit_is_read_from_either_version_of_control_groups_and_max_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(memory_limit(root.path()), None);

        std::fs::create_dir(root.path().join("memory")).unwrap();
        let old = root.path().join("memory/memory.limit_in_bytes");
        std::fs::write(&old, "9223372036854771712\n").unwrap();
        assert_eq!(memory_limit(root.path()), None);

        std::fs::write(&old, "536870912\n").unwrap();
        assert_eq!(memory_limit(root.path()), Some(ByteSize::mib(512)));

        std::fs::write(root.path().join("memory.max"), "1073741824\n").unwrap();
        assert_eq!(memory_limit(root.path()), Some(ByteSize::gib(1)));
    }
}
