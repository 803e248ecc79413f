//! What a page shows that no metric says, because it is no number or belongs to no label.

/// What a service tells about itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Facts {
    /// Of a consumer.
    Consumer(ConsumerFacts),
    /// Of a provisioner.
    Provisioner(ProvisionerFacts),
}

/// The state of a stamp's consumer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConsumerFacts {
    /// Partitions of the hub, read here or elsewhere.
    pub partitions: usize,
    /// Who reads them, as far as this process knows.
    pub owners: Vec<OwnerFacts>,
    /// In the order of the configuration.
    pub tenants: Vec<TenantFacts>,
    /// The last commit of each table that this process wrote to.
    pub tables: Vec<TableFacts>,
}

/// Who reads a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerFacts {
    /// Its number.
    pub partition: u32,
    /// The owner's name in the ownership blobs; `None`: this process, or nobody, without blobs.
    pub owner: Option<String>,
    /// Whether this process reads it.
    pub is_here: bool,
}

/// A tenant of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantFacts {
    /// Its id.
    pub id: String,
    /// The breaker of its store: `closed`, `half_open` or `open`.
    pub store: &'static str,
    /// What it uses of its quotas; none where it has none.
    pub quotas: Vec<QuotaUse>,
}

/// How much of one quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// `events`, `bytes` or `devices`.
    pub quota: &'static str,
    /// In the newest minute (`devices`: day) that this process has seen, by the hub's clock.
    pub used: u64,
    /// This process's part of the tenant's quota for a minute (`devices`: a day).
    pub limit: u64,
}

/// The last commit of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// Whose; `None` for the stamp's own.
    pub tenant: Option<String>,
    /// Its name.
    pub table: &'static str,
    /// The version that the commit made.
    pub version: u64,
    /// Rows in it.
    pub rows: u64,
    /// When it was known, microseconds since 1970 UTC.
    pub at_us: i64,
}

/// The state of a provisioner.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProvisionerFacts {
    /// In the order of the catalogue.
    pub stamps: Vec<StampFacts>,
}

/// How full a stamp is.
#[derive(Debug, Clone, PartialEq)]
pub struct StampFacts {
    /// Its id.
    pub id: String,
    /// On every axis.
    pub axes: Vec<AxisUse>,
}

/// How full a stamp is on one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisUse {
    /// As the catalogue calls it.
    pub axis: &'static str,
    /// Booked, as of the last look at the database, and what was given away since.
    pub booked: u64,
    /// Above it the stamp is avoided.
    pub soft: u64,
    /// Nothing is booked above it.
    pub hard: u64,
    /// Given away by this process and not yet booked.
    pub reserve: u64,
}
