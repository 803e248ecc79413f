//! Once the database is there: what was given away is written down, and what is known is looked up
//! anew. One caller only.

use stamp_placement::Stamp;
use stamp_telemetry::StampFill;

use super::*;

/// Tenants of one page.
const PAGE: u32 = 500;
/// Most tenants' homes that are remembered.
const HOMES_MAX: usize = 100_000;

impl Allocator {
    /// Writes down what was given away and looks at everything anew. Whether the database answered.
    pub(crate) async fn settle(&self) -> bool {
        match self.try_settle().await {
            Ok(()) => {
                self.metrics.database(true);
                true
            }
            Err(gave_up) => {
                self.metrics.database(false);
                if !gave_up.is_cancelled() {
                    let error: &dyn std::error::Error = &gave_up;
                    tracing::warn!(error, "the database of reservations is away");
                }
                false
            }
        }
    }

    async fn try_settle(&self) -> Result<(), GaveUp<ReservationsError>> {
        self.write_down().await?;
        // After the writing and before anything else is written: see `Reserve::sync`.
        let usage = |_| self.door.usage();
        let booked = self
            .peer
            .run(idempotent("usage"), &self.stop, usage)
            .await?;
        let booked: Used = booked.into_iter().collect();
        {
            let snapshot = self.snapshot();
            let mut state = self.state();
            state.reserve.sync(&snapshot.fleet, &booked);
            let part = state.reserve.part();
            self.metrics.fill(&fill(&snapshot.fleet, part, &booked));
            state.memory.used_is(booked);
        }
        let homes = self.homes().await?;
        self.state().memory.homes_are(homes);
        self.tell_reserve(&*self.ledger.lock().await);
        Ok(())
    }

    async fn write_down(&self) -> Result<(), GaveUp<ReservationsError>> {
        let pending = self.ledger.lock().await.pending.clone();
        for (device, given) in pending {
            self.write_one(&device, &given).await?;
            self.metrics.reserve_written();
            self.ledger.lock().await.pending.remove(&device);
            self.state()
                .reserve
                .written(&given.stamp, decide::device_books());
        }
        self.clear_journal().await;
        Ok(())
    }

    /// Books a device where it was given a place, whatever the limits say: the reserve saw to them. One
    /// that was booked elsewhere before is on its way from there, and takes both; what was booked
    /// later counts as it is.
    pub(super) async fn write_one(
        &self,
        device: &DeviceId,
        given: &Given,
    ) -> Result<Option<Booking>, GaveUp<ReservationsError>> {
        let claim = Claim {
            subject: Subject::Device(device.clone()),
            tenant: given.tenant.clone(),
            stamp: given.stamp.clone(),
            needs: decide::device_books(),
            limits: Axis::ALL
                .into_iter()
                .fold(Load::ZERO, |all, axis| all.with(axis, u64::MAX)),
        };
        match self.book(&claim).await? {
            Booked::New(booking) => Ok(Some(booking)),
            Booked::Already(booking)
                if booking.stamp == given.stamp || booking.changed_us > given.at_us =>
            {
                Ok(Some(booking))
            }
            Booked::Already(booking) => self.follow(&claim, booking).await.map(Some),
            Booked::Full { axis, .. } => {
                tracing::error!(stamp = %given.stamp, %axis, "a place from the reserve does not fit");
                Ok(None)
            }
        }
    }

    /// Takes a booking to where its device was sent meanwhile.
    async fn follow(
        &self,
        claim: &Claim,
        booking: Booking,
    ) -> Result<Booking, GaveUp<ReservationsError>> {
        let (subject, to) = (&claim.subject, &claim.stamp);
        let booking = match &booking.leaving {
            // DPS has taken it out of there when it assigned it anew.
            Some(leaving) if leaving != to => self.end_move(subject, booking).await?,
            _ => booking,
        };
        match self.step(subject, &booking, to, claim.limits).await? {
            Moved::Done(now) | Moved::Stale(now) => Ok(now),
            Moved::Absent | Moved::Full { .. } => Ok(booking),
        }
    }

    async fn clear_journal(&self) {
        // Held over the clearing: nothing may be added in between.
        let mut ledger = self.ledger.lock().await;
        let is_due = ledger.is_written && ledger.pending.is_empty();
        let (true, Some(journal)) = (is_due, ledger.journal.clone()) else {
            return;
        };
        let cleared = tokio::task::spawn_blocking(move || {
            journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear()
        });
        // What stays in it is booked already; a restart would find that out again.
        match cleared.await {
            Ok(Ok(())) => ledger.is_written = false,
            Ok(Err(error)) => tracing::warn!(%error, "the reserve's journal was not cleared"),
            Err(error) => tracing::error!(%error, "the reserve's journal was not cleared"),
        }
    }

    async fn homes(
        &self,
    ) -> Result<BTreeMap<(TenantId, Environment), Known>, GaveUp<ReservationsError>> {
        let mut homes = BTreeMap::new();
        let mut after = String::new();
        while homes.len() < HOMES_MAX {
            let page = |_| self.door.tenants(&after, PAGE);
            let page = self
                .peer
                .run(idempotent("tenants"), &self.stop, page)
                .await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.subject);
            for booking in page {
                let environment = booking.subject.rsplit_once('/').map(|(_, word)| word);
                if let Some(environment) = environment.and_then(Environment::parse) {
                    homes.insert((booking.tenant.clone(), environment), known(booking));
                }
            }
        }
        Ok(homes)
    }
}

/// How full every stamp of the catalogue is.
fn fill(fleet: &Fleet, part: Part, booked: &Used) -> Vec<StampFill> {
    let of = |stamp: &Stamp| {
        let booked = booked.get(&stamp.id).copied().unwrap_or_default();
        let (capacity, bookable) = (stamp.capacity, part.limits(stamp));
        let id = stamp.id.clone();
        Axis::ALL.map(|axis| StampFill {
            stamp: id.clone(),
            axis: axis.as_str(),
            booked: booked[axis],
            soft: capacity[axis].soft,
            hard: capacity[axis].hard,
            bookable: bookable[axis],
        })
    };
    fleet.stamps().iter().flat_map(of).collect()
}
