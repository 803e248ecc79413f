//! The life of one move in a service: run, rest, run again, until every device has ended.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::entry::{Entry, State};
use super::estate::Estate;
use super::folder::Reported;
use super::moves::Moves;
use crate::doors::Doors;
use crate::journal::Journal;
use crate::metrics::Observed;
use crate::mover::{Mover, Progress};
use crate::report::{Report, ReportOptions, Verdict};
use crate::step::chain;

/// Reports of a move whose devices have ended and are not all let in yet. Those that were taken back
/// are made at the source when they register.
const REPORTS_MAX: u32 = 60;

type MoverOf<E> = Mover<<E as Estate>::Hub, <E as Estate>::Dps, <E as Estate>::Tables>;

/// Runs a move until it has ended or the service stops. A pause is in the journal or among the
/// requests: nothing here takes it back.
pub(crate) async fn live<E: Estate>(
    moves: Arc<Moves<E>>,
    entry: Arc<Entry>,
    journal: Option<Journal>,
) {
    let mut life = Life {
        moves,
        entry,
        told: None,
        reports: 0,
    };
    let mut journal = journal;
    let mut mover = None;
    while !life.moves.stop.is_cancelled() {
        let state = match life.turn(&mut mover, journal.take()).await {
            Ok(state) => state,
            Err(why) => {
                // What is on the disk is not known to this mover any more: it is read again.
                mover = None;
                life.entry.inner().glimpse = None;
                life.entry.is(State::Failed, Some(why));
                State::Failed
            }
        };
        if state == State::Ended {
            return;
        }
        life.rest(state).await;
    }
}

struct Life<E> {
    moves: Arc<Moves<E>>,
    entry: Arc<Entry>,
    /// How far it was at the last report.
    told: Option<Progress>,
    reports: u32,
}

impl<E: Estate> Life<E> {
    /// Runs the move until nothing is due, and says where it stands then.
    async fn turn(
        &mut self,
        mover: &mut Option<MoverOf<E>>,
        journal: Option<Journal>,
    ) -> Result<State, String> {
        let running = match mover {
            Some(running) => running,
            None => mover.insert(self.open(journal).await?),
        };
        if self.entry.state() != State::Waiting {
            self.entry.is(State::Running, None);
        }
        let stop = self.moves.stop.clone();
        let ended = running.run(&stop).await;
        ended.map_err(|error| chain(&error))?;
        if stop.is_cancelled() {
            return Ok(State::Running);
        }
        let progress = running.progress();
        let state = State::at_rest(&progress);
        if state != State::Ended {
            self.tell(running, &progress).await?;
            self.entry.is(state, None);
            return Ok(state);
        }
        let report = running
            .report(self.entry.ordered.options.report(), &stop)
            .await;
        if stop.is_cancelled() {
            return Ok(State::Running);
        }
        self.reports += 1;
        let returns = !report.returning.is_empty() || !report.problems.is_empty();
        let is_final =
            report.verdict == Verdict::Complete || !returns || self.reports >= REPORTS_MAX;
        self.keep(report, is_final).await?;
        if !is_final {
            self.entry.is(State::Waiting, None);
            return Ok(State::Waiting);
        }
        // The journal's lock is given back before anybody can forget the move.
        *mover = None;
        self.entry.is(State::Ended, None);
        Ok(State::Ended)
    }

    /// Opens the journal, if it is not, and the services.
    async fn open(&self, journal: Option<Journal>) -> Result<MoverOf<E>, String> {
        let (moves, entry) = (Arc::clone(&self.moves), Arc::clone(&self.entry));
        let open = move || {
            let path = moves.folder.journal(&entry.id);
            let journal = match journal {
                Some(journal) => journal,
                None => Journal::open(&path).map_err(|error| chain(&error))?,
            };
            entry.journal_is(&journal);
            let plan = journal.plan();
            let open = moves
                .estate
                .open(&plan)
                .map_err(|error| error.to_string())?;
            let policy = moves.estate.policy();
            let doors = Doors::within(&plan, open, &policy, &moves.observer, &moves.lanes);
            let doors = doors.map_err(|error| chain(&error))?;
            let options = entry.ordered.options.mover(Arc::clone(&moves.clock));
            let observed: Arc<dyn Observed> = entry;
            Ok::<_, String>(Mover::new(doors, journal, options, observed))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let mover = opened.map_err(|error| error.to_string())??;
        self.entry.inner().glimpse = Some(mover.glimpse());
        Ok(mover)
    }

    /// Reports on a move that has not ended, when something has changed since the last time. The hubs
    /// are not asked about every device each time.
    async fn tell(&mut self, mover: &MoverOf<E>, progress: &Progress) -> Result<(), String> {
        if self.told.as_ref() == Some(progress) {
            return Ok(());
        }
        self.told = Some(progress.clone());
        let options = ReportOptions {
            audit: false,
            telemetry_before_us: None,
        };
        let report = mover.report(options, &self.moves.stop).await;
        self.keep(report, false).await
    }

    async fn keep(&self, report: Report, is_final: bool) -> Result<(), String> {
        self.entry.reported(&report);
        let (folder, id) = (Arc::clone(&self.moves.folder), self.entry.id.clone());
        let reported = Reported { is_final, report };
        let kept = tokio::task::spawn_blocking(move || folder.keep(&id, &reported)).await;
        let kept = kept.map_err(|error| error.to_string())?;
        kept.map_err(|error| chain(&error))
    }

    /// Waits until the move is looked at again: after a while, when somebody asks something, or when
    /// the service stops. One that waits for people only waits for them.
    async fn rest(&self, state: State) {
        let (stop, wake): (&CancellationToken, _) = (&self.moves.stop, &self.entry.wake);
        let asked = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = wake.notified() => {}
            }
        };
        match state {
            State::Paused | State::Held => asked.await,
            _ => {
                let _elapsed = tokio::time::timeout(self.moves.limits.again_every, asked).await;
            }
        }
    }
}
