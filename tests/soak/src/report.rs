//! The figures of a soak.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// What a replica may grow by once its buffers are full: what its allocator needs to breathe.
const FLAT_BYTES_MAX: u64 = 16 * MIB;

/// What one long outage of the store showed.
#[derive(Debug, Clone, Default)]
pub struct Outage {
    /// How long it was.
    pub time: Duration,
    /// Highest resident memory of any replica in the half minute before.
    pub resident_before: u64,
    /// The same while the buffers filled.
    pub resident_filled: u64,
    /// The same from then to its end.
    pub resident_max: u64,
    /// Events that waited at its end.
    pub lag: u64,
    /// How long until no more waited than before it; `None` when that did not come in ten minutes.
    pub recovered_in: Option<Duration>,
}

/// What a soak did and found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of events and faults.
    pub seed: u64,
    /// How long faults were made.
    pub time: Duration,
    /// Events that were sent.
    pub events: u64,
    /// Of them, rows of `readings`, by the independent recount.
    pub readings: u64,
    /// Rows of `rejected`.
    pub rejected: u64,
    /// Rows of `quarantine` of devices that nobody knows.
    pub quarantined: u64,
    /// Rows of `quarantine` that a tenant's tables could not take in time, or no longer; a replay
    /// brings them in.
    pub backlog: u64,
    /// Rows of `quarantine` beside those: their event is in its tenant's table as well, which holds.
    pub returned: u64,
    /// Tenants times windows that were compared.
    pub windows: u64,
    /// SIGKILLs.
    pub kills: u64,
    /// SIGSTOPs that were followed by SIGCONT.
    pub pauses: u64,
    /// Faults of store and hub, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests to the store that a fault broke, besides refused connections.
    pub broken_requests: u64,
    /// Requests that reached the proxy before the store.
    pub requests: u64,
    /// Processes that ended by themselves and were started again: how, and the last line of each log.
    pub own_ends: Vec<String>,
    /// Commits that met another writer, as last seen in each life of a replica.
    pub conflicts: u64,
    /// Rows that marks dropped, likewise.
    pub dropped_by_marks: u64,
    /// Events that came again, likewise.
    pub redelivered: u64,
    /// Highest resident memory of each replica, in bytes.
    pub resident_bytes_max: Vec<u64>,
    /// Most events that waited at a time.
    pub lag_max: u64,
    /// How long the stamp took to settle once everything worked.
    pub settled_in: Duration,
    /// The long outage, when there was one.
    pub outage: Option<Outage>,
    /// Everything that is not as it must be.
    pub differences: Vec<String>,
}

impl Report {
    /// Whether every event is there once, and memory stayed flat in the outage.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.differences.is_empty() && self.outage.as_ref().is_none_or(Outage::is_good)
    }
}

impl Outage {
    fn is_good(&self) -> bool {
        self.recovered_in.is_some() && self.resident_max <= self.resident_filled + FLAT_BYTES_MAX
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "soak of {} s, seed {}", self.time.as_secs(), self.seed)?;
        writeln!(f, "events sent            {}", self.events)?;
        writeln!(
            f,
            "found                  {} readings, {} rejected, {} quarantined, {} of a backlog, {} returned",
            self.readings, self.rejected, self.quarantined, self.backlog, self.returned
        )?;
        writeln!(f, "tenants x windows      {}", self.windows)?;
        writeln!(f, "kills                  {}", self.kills)?;
        writeln!(f, "pauses                 {}", self.pauses)?;
        writeln!(
            f,
            "faults                 {}",
            self.faults.values().sum::<u64>()
        )?;
        for (name, count) in &self.faults {
            writeln!(f, "  {count:>4} {name}")?;
        }
        writeln!(
            f,
            "requests to the store  {}, {} of them broken",
            self.requests, self.broken_requests
        )?;
        writeln!(f, "ended by themselves    {}", self.own_ends.len())?;
        for end in &self.own_ends {
            writeln!(f, "     {end}")?;
        }
        writeln!(f, "commit conflicts       {}", self.conflicts)?;
        writeln!(f, "rows dropped by marks  {}", self.dropped_by_marks)?;
        writeln!(f, "events delivered again {}", self.redelivered)?;
        let resident: Vec<String> = self
            .resident_bytes_max
            .iter()
            .map(|bytes| mib(*bytes))
            .collect();
        writeln!(f, "max resident memory    {}", resident.join(", "))?;
        writeln!(f, "max lag                {} events", self.lag_max)?;
        writeln!(
            f,
            "settled after          {:.1} s",
            self.settled_in.as_secs_f64()
        )?;
        if let Some(outage) = &self.outage {
            write!(f, "{outage}")?;
        }
        for difference in &self.differences {
            writeln!(f, "difference: {difference}")?;
        }
        writeln!(f, "differences: {}", self.differences.len())
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "outage of {} s          resident before {}, filled {}, then at most {}; {} events waited",
            self.time.as_secs(),
            mib(self.resident_before),
            mib(self.resident_filled),
            mib(self.resident_max),
            self.lag
        )?;
        match self.recovered_in {
            Some(time) => writeln!(f, "  lag was gone after   {:.1} s", time.as_secs_f64()),
            None => writeln!(f, "  lag was not gone after ten minutes"),
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / MIB)
}
