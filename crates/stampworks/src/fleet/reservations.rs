//! The provisioner's database of reservations, as the commands of `fleet` reach it: every call is made
//! once, and takes as long as [`CALL_MAX`] at most.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use stamp_consumer::ConfigError;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Environment, Load};
use stamp_reservations::{Booking, Reservations, ReservationsConfig, ReservationsError, Subject};

use super::usage::read_toml;
use crate::exit::Failure;

/// Longest call: some of them read over all rows.
const CALL_MAX: Duration = Duration::from_secs(30);
/// Bookings that one call gives.
pub(super) const PAGE: u32 = 1_000;
/// Most homes of tenants that are read.
const HOMES_MAX: usize = 100_000;

/// A provisioner's configuration, of which only this is looked at.
#[derive(Debug, Deserialize)]
struct Configured {
    reservations: ReservationsConfig,
}

/// Reads where the database is: a provisioner's configuration file, or one with nothing but its section
/// `[reservations]`. Paths in it are relative to the file.
pub(super) fn configured(path: &Path) -> Result<ReservationsConfig, Failure> {
    let mut config = read_toml::<Configured>(path)?.reservations;
    config.rebase(path.parent().unwrap_or(Path::new("")));
    Ok(config)
}

/// Where a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Home {
    environment: Environment,
    stamp: StampId,
    /// The stamp that it has not left yet: its place there was not given back.
    leaving: Option<StampId>,
}

/// What is booked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Booked {
    used: BTreeMap<StampId, Load>,
    homes: BTreeMap<TenantId, Vec<Home>>,
}

impl Booked {
    /// What is booked of a stamp. A database that has never heard of it has nothing booked there.
    pub(super) fn of(&self, stamp: &StampId) -> Load {
        self.used.get(stamp).copied().unwrap_or_default()
    }

    /// The stamp that a tenant is on in an environment.
    pub(super) fn home(&self, tenant: &TenantId, environment: Environment) -> Option<&StampId> {
        let homes = self.homes.get(tenant)?;
        let home = homes.iter().find(|home| home.environment == environment);
        home.map(|home| &home.stamp)
    }

    /// Whether a tenant still has a place on a stamp that it was taken away from.
    pub(super) fn leaves(&self, tenant: &TenantId, stamp: &StampId) -> bool {
        let mut homes = self.homes.get(tenant).into_iter().flatten();
        homes.any(|home| home.leaving.as_ref() == Some(stamp))
    }

    /// Stamps with bookings.
    pub(super) fn stamps(&self) -> impl Iterator<Item = &StampId> {
        let used = self.used.iter().filter(|(_, load)| **load != Load::ZERO);
        used.map(|(stamp, _)| stamp)
    }
}

/// Everything that is booked, device by device aside. Inside of a runtime only.
pub(super) async fn booked(database: &ReservationsConfig) -> Result<Booked, Failure> {
    let door = Reservations::read_only(database).map_err(refuse)?;
    let used = within(door.usage()).await?.into_iter().collect();
    let mut homes: BTreeMap<TenantId, Vec<Home>> = BTreeMap::new();
    for booking in tenants(&door, HOMES_MAX).await? {
        if let Some(environment) = environment(&booking) {
            homes.entry(booking.tenant).or_default().push(Home {
                environment,
                stamp: booking.stamp,
                leaving: booking.leaving,
            });
        }
    }
    Ok(Booked { used, homes })
}

/// The stamp that a device is on.
pub(super) fn device(path: &Path, device: &DeviceId) -> Result<Option<StampId>, Failure> {
    let door = Reservations::read_only(&configured(path)?).map_err(refuse)?;
    let subject = Subject::Device(device.clone());
    let found = crate::runtime()?.block_on(within(door.get(&subject)))?;
    Ok(found.map(|booking| booking.stamp))
}

/// The environment of a tenant's booking; `None` for any other.
pub(super) fn environment(booking: &Booking) -> Option<Environment> {
    let (_, word) = booking.subject.strip_prefix("tenant:")?.rsplit_once('/')?;
    Environment::parse(word)
}

/// Bookings of tenants, up to `most` and one more.
pub(super) async fn tenants(door: &Reservations, most: usize) -> Result<Vec<Booking>, Failure> {
    pages(most, async |after| door.tenants(&after, PAGE).await).await
}

/// Page after page, up to `most` and one more: that there is more is told apart from that there is not.
pub(super) async fn pages(
    most: usize,
    page: impl AsyncFn(String) -> Result<Vec<Booking>, ReservationsError>,
) -> Result<Vec<Booking>, Failure> {
    let mut found: Vec<Booking> = Vec::new();
    loop {
        let after = found
            .last()
            .map_or_else(String::new, |last| last.subject.clone());
        let page = within(page(after)).await?;
        let is_last = page.len() < PAGE as usize;
        found.extend(page);
        if is_last || found.len() > most {
            found.truncate(most.saturating_add(1));
            return Ok(found);
        }
    }
}

/// One call.
pub(super) async fn within<T>(
    call: impl Future<Output = Result<T, ReservationsError>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(answer) => answer.map_err(refuse),
        Err(_elapsed) => Err(Failure::because(format!(
            "the database of reservations did not answer within {} s",
            CALL_MAX.as_secs()
        ))),
    }
}

pub(super) fn refuse(error: ReservationsError) -> Failure {
    match error {
        ReservationsError::Config { key, reason } => {
            ConfigError::value(format!("reservations.{key}"), reason).into()
        }
        ReservationsError::Denied { .. } => Failure::Auth {
            what: "the database of reservations let nobody in".into(),
            cause: Box::new(error),
        },
        error => Failure::failed("the database of reservations cannot be used", error),
    }
}
