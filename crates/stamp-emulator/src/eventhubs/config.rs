//! What an emulator is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::EmulatorError;
use crate::tls::Authority;

/// Microseconds since 1970. The emulator asks it for enqueued times, creation times and retention.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's own time as a [`Clock`].
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

/// An emulated namespace: its address, its hubs and its limits.
#[derive(Clone)]
pub struct EmulatorConfig {
    /// Where to listen; port 0 takes a free one. The default is 127.0.0.1:5672, where clients look
    /// when their connection string says `UseDevelopmentEmulator=true`. Every token is accepted, so
    /// an address beyond this machine is refused.
    pub listen: SocketAddr,
    /// Where to listen for clients that come with TLS, if anywhere.
    pub tls: Option<TlsListen>,
    /// The namespace's hubs, at least one.
    pub hubs: Vec<HubConfig>,
    /// The time.
    pub clock: Clock,
    /// Bounds on what clients can make the emulator hold.
    pub limits: Limits,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5672)),
            tls: None,
            hubs: vec![HubConfig::default()],
            clock: wall_clock(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for EmulatorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmulatorConfig")
            .field("listen", &self.listen)
            .field("tls", &self.tls)
            .field("hubs", &self.hubs)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A port on which a client begins with a TLS handshake, as on the service's 5671.
#[derive(Debug, Clone)]
pub struct TlsListen {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Signs the certificate, which is for `localhost` and for the address. Clients have to trust it.
    pub authority: Arc<Authority>,
}

/// One Event Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Its name: 1 to 256 letters, digits, `.`, `-`, `_`. Matched without regard to case.
    pub name: String,
    /// Its partitions, 1 to 1,024.
    pub partitions: u32,
    /// Consumer groups beside `$Default`, which always exists. At most 1,000.
    pub consumer_groups: Vec<String>,
    /// How long events stay.
    pub retention: Retention,
    /// Whether a client that sends over AMQP may set the annotations that IoT Hub sets
    /// (`iothub-*`, `dt-dataschema`, `dt-subject`), to play IoT Hub. The real service takes them
    /// away from anyone else. Default `true`.
    pub accept_iothub_annotations: bool,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            name: "telemetry".to_owned(),
            partitions: 4,
            consumer_groups: Vec::new(),
            retention: Retention::default(),
            accept_iothub_annotations: true,
        }
    }
}

/// What stays in each partition: an event goes when any of the three says so. The latest event of a
/// partition may go too; sequence numbers go on. A hub holds at most `partitions` x `bytes_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Most events in a partition. Default 10,000,000.
    pub events_max: u64,
    /// Most encoded bytes in a partition. Default 256 MiB.
    pub bytes_max: u64,
    /// Greatest age by enqueued time. Default one day, as the service's basic tier.
    pub age_max: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events_max: 10_000_000,
            bytes_max: 256 * 1024 * 1024,
            age_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Bounds on what clients can make the emulator hold. Reaching one ends the link or connection that
/// reached it, with an error that says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones are closed at once. Default 5,000, the standard tier's.
    pub connections_max: usize,
    /// Sessions of one connection. Default 1,024.
    pub sessions_max: u16,
    /// Links of one session. Default 256.
    pub links_max: u32,
    /// Largest frame in bytes, at least 512. Default 65,000: a little below the clients' 65,536.
    pub frame_bytes_max: u32,
    /// Largest message, and largest batch. Default 1 MiB, the standard tier's.
    pub message_bytes_max: usize,
    /// Bytes of messages a connection has begun but not finished sending. Default 16 MiB.
    pub partial_bytes_max: usize,
    /// Replies that wait for a client to take them. Default 1,000 a link.
    pub replies_max: usize,
    /// A connection from which nothing came for this long is closed; half of it is announced to the
    /// client. Default 8 minutes (the service announces 4).
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 5_000,
            sessions_max: 1_024,
            links_max: 256,
            frame_bytes_max: 65_000,
            message_bytes_max: 1024 * 1024,
            partial_bytes_max: 16 * 1024 * 1024,
            replies_max: 1_000,
            idle_timeout: Duration::from_secs(8 * 60),
        }
    }
}

/// Smallest largest frame (AMQP 1.0 part 2.4.1).
const FRAME_BYTES_MIN: u32 = 512;
const PARTITIONS_MAX: u32 = 1_024;
const CONSUMER_GROUPS_MAX: usize = 1_000;

impl EmulatorConfig {
    /// Checks every value.
    pub(crate) fn check(&self) -> Result<(), EmulatorError> {
        let bad = |text: String| Err(EmulatorError::Config(text));
        let tls = self.tls.as_ref().map(|tls| ("tls.listen", tls.listen));
        for (key, address) in [("listen", self.listen)].into_iter().chain(tls) {
            if !address.ip().is_loopback() {
                return bad(format!("{key}: {address} is not a loopback address"));
            }
        }
        if self.hubs.is_empty() {
            return bad("hubs: at least one is needed".to_owned());
        }
        if self.limits.frame_bytes_max < FRAME_BYTES_MIN || self.limits.frame_bytes_max > 1 << 20 {
            return bad("limits.frame_bytes_max must be 512 bytes to 1 MiB".to_owned());
        }
        if self.limits.sessions_max == 0 || self.limits.links_max == 0 {
            return bad("limits: sessions_max and links_max must be at least 1".to_owned());
        }
        if self.limits.idle_timeout < Duration::from_secs(1) {
            return bad("limits.idle_timeout must be at least one second".to_owned());
        }
        let mut seen = Vec::new();
        for hub in &self.hubs {
            hub.check()?;
            let name = hub.name.to_lowercase();
            if seen.contains(&name) {
                return bad(format!("hubs: {name:?} is there twice"));
            }
            seen.push(name);
        }
        Ok(())
    }
}

impl HubConfig {
    fn check(&self) -> Result<(), EmulatorError> {
        let bad = |text: String| {
            Err(EmulatorError::Config(format!(
                "hub {:?}: {text}",
                self.name
            )))
        };
        if !is_entity_name(&self.name, 256) {
            return bad("name must be 1 to 256 letters, digits, '.', '-' or '_'".to_owned());
        }
        if !(1..=PARTITIONS_MAX).contains(&self.partitions) {
            return bad(format!("partitions must be 1 to {PARTITIONS_MAX}"));
        }
        if self.consumer_groups.len() > CONSUMER_GROUPS_MAX {
            return bad(format!("more than {CONSUMER_GROUPS_MAX} consumer groups"));
        }
        if let Some(name) = self.consumer_groups.iter().find(|g| !is_group_name(g)) {
            return bad(format!(
                "consumer group {name:?} must be 1 to 50 letters, digits, '.', '-' or '_'"
            ));
        }
        Ok(())
    }
}

fn is_entity_name(name: &str, chars_max: usize) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= chars_max && name.bytes().all(good)
}

fn is_group_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("$default") || is_entity_name(name, 50)
}
