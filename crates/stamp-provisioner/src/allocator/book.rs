//! Calls of the database, each through the one retry layer, and read back where its outcome is open.

use super::*;

impl Allocator {
    pub(super) async fn get(
        &self,
        subject: &Subject,
    ) -> Result<Option<Booking>, GaveUp<ReservationsError>> {
        let get = |_| self.door.get(subject);
        let found = self.peer.run(idempotent("get"), &self.stop, get).await?;
        self.metrics.database(true);
        Ok(found)
    }

    pub(super) async fn book(&self, claim: &Claim) -> Result<Booked, GaveUp<ReservationsError>> {
        let now_us = (self.clock)();
        let book = |_| self.door.book(claim, now_us);
        let read_back = |_| async {
            let found = self.door.get(&claim.subject).await?;
            Ok(found.map(Booked::Already))
        };
        self.peer
            .run_reading_back("book", &self.stop, book, read_back)
            .await
    }

    /// One change of a booking, and how to see that it was done.
    async fn change<'a, Fut>(
        &'a self,
        operation: &'static str,
        subject: &'a Subject,
        done: impl Fn(&Booking) -> bool,
        change: impl Fn() -> Fut,
    ) -> Result<Moved, GaveUp<ReservationsError>>
    where
        Fut: Future<Output = Result<Moved, ReservationsError>>,
    {
        let done = &done;
        let read_back = |_| async move {
            let found = self.door.get(subject).await?;
            Ok(found.filter(done).map(Moved::Done))
        };
        let change = |_| change();
        self.peer
            .run_reading_back(operation, &self.stop, change, read_back)
            .await
    }

    /// Asks with what is known to be used; when there is no room, looks once whether that is true.
    pub(super) async fn with_room<T>(
        &self,
        snapshot: &Snapshot,
        ask: impl Fn(&Used) -> Result<T, Refused>,
    ) -> Result<T, Stop> {
        let used = self.planned(snapshot);
        match ask(&used) {
            Err(refused) if decide::is_about_room(&refused) => {
                let usage = |_| self.door.usage();
                let booked = self
                    .peer
                    .run(idempotent("usage"), &self.stop, usage)
                    .await?;
                self.state().memory.used_is(booked.into_iter().collect());
                Ok(ask(&self.planned(snapshot))?)
            }
            answer => Ok(answer?),
        }
    }

    /// What counts as used when a place is looked for: the reserve is not there to be chosen.
    fn planned(&self, snapshot: &Snapshot) -> Used {
        let state = self.state();
        let part = state.reserve.part();
        let mut planned = Used::new();
        for stamp in snapshot.fleet.stamps() {
            let booked = state
                .memory
                .used()
                .get(&stamp.id)
                .copied()
                .unwrap_or_default();
            let limits = part.limits(stamp);
            let mut load = Load::ZERO;
            for axis in Axis::ALL {
                let hard = stamp.capacity[axis].hard;
                load[axis] = booked[axis].saturating_add(hard - limits[axis]).min(hard);
            }
            planned.insert(stamp.id.clone(), load);
        }
        planned
    }

    fn limits(&self, snapshot: &Snapshot, stamp: &StampId) -> Result<Load, Refused> {
        let part = self.state().reserve.part();
        Ok(part.limits(decide::stamp(snapshot, stamp)?))
    }

    pub(super) async fn book_device(
        &self,
        snapshot: &Snapshot,
        question: &Question,
        stamp: &StampId,
    ) -> Result<(Booking, AnswerOrigin), Stop> {
        let claim = Claim {
            subject: Subject::Device(question.device.clone()),
            tenant: question.tenant.clone(),
            stamp: stamp.clone(),
            needs: decide::device_books(),
            limits: self.limits(snapshot, stamp)?,
        };
        match self.book(&claim).await? {
            Booked::New(booking) => {
                self.state().memory.took(stamp, claim.needs);
                Ok((booking, AnswerOrigin::Booked))
            }
            Booked::Already(booking) => Ok((booking, AnswerOrigin::Kept)),
            Booked::Full { axis, used } => Err(self.full(stamp, axis, used).into()),
        }
    }

    /// The tenant's booking, whoever made it; `None` when the stamp is full.
    pub(super) async fn book_tenant(
        &self,
        snapshot: &Snapshot,
        question: &Question,
        stamp: &StampId,
    ) -> Result<Option<Booking>, Stop> {
        let tenant = snapshot.fleet.tenant(&question.tenant);
        let tenant = tenant.ok_or_else(|| decide::unknown_tenant(&question.tenant))?;
        let claim = Claim {
            subject: Subject::Tenant(tenant.id.clone(), question.environment),
            tenant: tenant.id.clone(),
            stamp: stamp.clone(),
            needs: decide::tenant_books(tenant),
            limits: self.limits(snapshot, stamp)?,
        };
        match self.book(&claim).await? {
            Booked::New(booking) => {
                self.state().memory.took(stamp, claim.needs);
                Ok(Some(booking))
            }
            Booked::Already(booking) => Ok(Some(booking)),
            Booked::Full { axis, used } => {
                self.full(stamp, axis, used);
                Ok(None)
            }
        }
    }

    /// The database knows better what is used of a stamp.
    fn full(&self, stamp: &StampId, axis: Axis, used: u64) -> Refused {
        let mut state = self.state();
        let known = state.memory.used().get(stamp).copied().unwrap_or_default();
        let more = Load::ZERO.with(axis, used.saturating_sub(known[axis]));
        state.memory.took(stamp, more);
        let message = format!("{stamp} has no room: {used} are booked on axis {axis}");
        Refused::new(Reason::NoCapacity, message)
    }

    /// Takes a tenant's home to another stamp. Inner error: it is not as it was, look again.
    pub(super) async fn move_home(
        &self,
        snapshot: &Snapshot,
        subject: &Subject,
        booking: Booking,
        to: &StampId,
    ) -> Result<Result<Booking, Option<Booking>>, Stop> {
        let moved = self.move_booking(snapshot, subject, &booking, to).await?;
        Ok(match moved {
            Moved::Done(booking) => Ok(booking),
            Moved::Stale(now) => Err(Some(now)),
            Moved::Absent => Err(None),
            Moved::Full { axis, used } => return Err(self.full(to, axis, used).into()),
        })
    }

    /// Takes a device to the stamp of its tenant.
    pub(super) async fn move_device(
        &self,
        snapshot: &Snapshot,
        question: &Question,
        booking: Booking,
        to: &StampId,
    ) -> Result<Booking, Stop> {
        let booking = self.arrived(question, booking).await?;
        let subject = Subject::Device(question.device.clone());
        match self.move_booking(snapshot, &subject, &booking, to).await? {
            Moved::Done(booking) => Ok(booking),
            Moved::Stale(now) if now.stamp == *to => Ok(now),
            Moved::Full { axis, used } => Err(self.full(to, axis, used).into()),
            Moved::Stale(_) | Moved::Absent => {
                let message = format!("{subject} is being moved by somebody else");
                Err(Refused::new(Reason::MoveOpen, message).into())
            }
        }
    }

    async fn move_booking(
        &self,
        snapshot: &Snapshot,
        subject: &Subject,
        booking: &Booking,
        to: &StampId,
    ) -> Result<Moved, Stop> {
        let limits = match &booking.leaving {
            Some(leaving) if leaving != to => {
                let message = format!("{subject} is still leaving {leaving} for {}", booking.stamp);
                return Err(Refused::new(Reason::MoveOpen, message).into());
            }
            // Back to where it comes from: its place there was never given away.
            Some(_) => Load::ZERO,
            None => self.limits(snapshot, to)?,
        };
        Ok(self.step(subject, booking, to, limits).await?)
    }

    /// Begins a move, or takes one back that goes to where the booking comes from.
    pub(super) async fn step(
        &self,
        subject: &Subject,
        booking: &Booking,
        to: &StampId,
        limits: Load,
    ) -> Result<Moved, GaveUp<ReservationsError>> {
        let (version, now_us) = (booking.version, (self.clock)());
        let done = |found: &Booking| found.version == version + 1 && found.stamp == *to;
        let moved = if booking.leaving.as_ref() == Some(to) {
            let undo = || self.door.undo_move(subject, version, now_us);
            self.change("undo_move", subject, done, undo).await?
        } else {
            let begin = || self.door.begin_move(subject, version, to, limits, now_us);
            self.change("begin_move", subject, done, begin).await?
        };
        if let Moved::Done(_) = &moved {
            tracing::info!(%subject, from = %booking.stamp, %to, "moved");
        }
        Ok(moved)
    }

    /// Ends a move: what the booking left is free.
    pub(super) async fn end_move(
        &self,
        subject: &Subject,
        booking: Booking,
    ) -> Result<Booking, GaveUp<ReservationsError>> {
        let (version, now_us) = (booking.version, (self.clock)());
        let done = |found: &Booking| found.version == version + 1 && found.leaving.is_none();
        let end = || self.door.end_move(subject, version, now_us);
        match self.change("end_move", subject, done, end).await? {
            Moved::Done(now) | Moved::Stale(now) => Ok(now),
            Moved::Absent | Moved::Full { .. } => Ok(booking),
        }
    }

    /// A device that the catalogue or its enrolment has given to another tenant is that tenant's in the
    /// database too, wherever it goes then.
    pub(super) async fn of_its_tenant(
        &self,
        question: &Question,
        booking: Booking,
    ) -> Result<Option<Booking>, Stop> {
        if booking.tenant == question.tenant {
            return Ok(Some(booking));
        }
        let subject = Subject::Device(question.device.clone());
        let (version, now_us, tenant) = (booking.version, (self.clock)(), &question.tenant);
        let done = |found: &Booking| found.version == version + 1 && found.tenant == *tenant;
        let give = || self.door.give_to(&subject, version, tenant, now_us);
        match self.change("give_to", &subject, done, give).await? {
            Moved::Done(now) => {
                tracing::info!(%subject, from = %booking.tenant, to = %tenant, "given to its tenant");
                Ok(Some(now))
            }
            Moved::Stale(now) => Ok(Some(now)),
            Moved::Absent | Moved::Full { .. } => Ok(None),
        }
    }

    /// Ends a device's move once DPS has assigned it to the new hub: it is gone from the old one then,
    /// because DPS takes it out of there.
    pub(super) async fn arrived(
        &self,
        question: &Question,
        booking: Booking,
    ) -> Result<Booking, Stop> {
        if booking.leaving.is_none() || question.current.as_ref() != Some(&booking.stamp) {
            return Ok(booking);
        }
        let subject = Subject::Device(question.device.clone());
        Ok(self.end_move(&subject, booking).await?)
    }
}
