//! Answers while the database is away: from memory, from what DPS says, and from the reserve.

use super::*;

impl Allocator {
    pub(super) fn is_away(&self, gave_up: &GaveUp<ReservationsError>) {
        self.metrics.database(false);
        if !gave_up.is_cancelled() {
            let error: &dyn std::error::Error = gave_up;
            tracing::debug!(error, "answered without the database");
        }
    }

    pub(super) async fn without_database(
        &self,
        snapshot: &Snapshot,
        question: &Question,
    ) -> Result<(StampId, AnswerOrigin), Refused> {
        // It is later than whatever is remembered.
        if let Some(stamp) = given_before(&*self.ledger.lock().await, question)? {
            return Ok((stamp, AnswerOrigin::Reserve));
        }
        if let Some(stamp) = self.remembered(snapshot, question) {
            return Ok((stamp, AnswerOrigin::Memory));
        }
        let stamp = self.give(snapshot, question).await?;
        Ok((stamp, AnswerOrigin::Reserve))
    }

    /// Where the device is, if it may stay there: as it was answered before, or as DPS says.
    fn remembered(&self, snapshot: &Snapshot, question: &Question) -> Option<StampId> {
        let state = self.state();
        let seen = state
            .memory
            .device(&question.device)
            .map(|known| &known.stamp);
        let stamp = seen.or(question.current.as_ref())?;
        let home = state.memory.home(&question.tenant, question.environment);
        let home = home.map_or(stamp, |home| &home.stamp);
        let place = decide::device(snapshot, state.memory.used(), question, Some(stamp), home);
        let stays = place.is_ok_and(|place| matches!(place, Place::Stays(_)));
        (stays && question.linked.contains(stamp)).then(|| stamp.clone())
    }

    /// Gives the device a place out of this provisioner's own part, on its tenant's stamp.
    async fn give(&self, snapshot: &Snapshot, question: &Question) -> Result<StampId, Refused> {
        let mut ledger = self.ledger.lock().await;
        if let Some(stamp) = given_before(&ledger, question)? {
            return Ok(stamp);
        }
        let Some(journal) = ledger.journal.clone() else {
            return Err(away("the database is away, and there is no reserve"));
        };
        let stamp = self.take(snapshot, question)?;
        let given = Given {
            device: question.device.as_str().to_owned(),
            tenant: question.tenant.clone(),
            stamp: stamp.clone(),
            at_us: (self.clock)(),
        };
        // First in memory: when the caller goes away in the middle, it is written down all the same.
        ledger
            .pending
            .insert(question.device.clone(), given.clone());
        ledger.is_written = true;
        let added = tokio::task::spawn_blocking(move || {
            journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(&given)
        });
        let failed = match added.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            tracing::error!(error, "the reserve's journal cannot be written");
            ledger.pending.remove(&question.device);
            self.state()
                .reserve
                .taken_back(&stamp, decide::device_books());
            return Err(away("the database is away, and the reserve's journal too"));
        }
        self.tell_reserve(&ledger);
        tracing::warn!(%stamp, tenant = %question.tenant, "a place was given from the reserve");
        Ok(stamp)
    }

    /// Counts one device against the reserve of its tenant's stamp.
    fn take(&self, snapshot: &Snapshot, question: &Question) -> Result<StampId, Refused> {
        let mut state = self.state();
        let home = state.memory.home(&question.tenant, question.environment);
        let Some(home) = home.map(|home| home.stamp.clone()) else {
            let tenant = &question.tenant;
            let message = format!("{tenant} has no stamp yet, and only the database can say which");
            return Err(away(message));
        };
        if question.pinned.is_none() && !question.linked.contains(&home) {
            let message = format!(
                "{} is on {home}, whose hub the enrolment does not link",
                question.tenant
            );
            return Err(Refused::new(Reason::HomeNotLinked, message));
        }
        // Room is the reserve's business here: it holds even where nothing else is left.
        let (Place::Goes(stamp) | Place::Stays(stamp)) =
            decide::device(snapshot, &Used::new(), question, None, &home)?;
        state.reserve.give(&stamp, decide::device_books()).map_err(|axis| {
            let message = format!(
                "the database is away, and what may be given away of {stamp} is used up on axis {axis}"
            );
            Refused::new(Reason::ReserveUsedUp, message)
        })?;
        Ok(stamp)
    }

    pub(super) fn tell_reserve(&self, ledger: &Ledger) {
        let ratio = self.state().reserve.used_ratio();
        let pending = ledger.pending.len();
        self.metrics
            .reserve(pending.try_into().unwrap_or(u64::MAX), ratio);
    }
}

/// What the device was given while the database is away. A second place would be a move, which takes
/// both: only the database counts that.
fn given_before(ledger: &Ledger, question: &Question) -> Result<Option<StampId>, Refused> {
    match ledger.pending.get(&question.device) {
        Some(given) if !question.linked.contains(&given.stamp) => {
            let (device, stamp) = (&question.device, &given.stamp);
            let message = format!("{device} was given {stamp}, and the database is away");
            Err(away(message))
        }
        given => Ok(given.map(|given| given.stamp.clone())),
    }
}

fn away(message: impl Into<String>) -> Refused {
    Refused::new(Reason::DatabaseAway, message)
}
