//! A door's error with every kind, a recorder of events, and scripted operations.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stamp_resilience::{
    Attempt, BreakerPolicy, BudgetPolicy, Classify, FailureKind, GiveUpReason, Observer, Outcome,
    PauseCause, Peer, RetryEvent, RetryPolicy,
};
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DoorError {
    #[error("connection reset")]
    Reset,
    #[error("server busy")]
    Busy(Option<Duration>),
    #[error("not allowed")]
    Refused,
    #[error("reply lost")]
    Lost,
}

impl Classify for DoorError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Reset => FailureKind::Transient,
            Self::Busy(retry_after) => FailureKind::Throttled {
                retry_after: *retry_after,
            },
            Self::Refused => FailureKind::Permanent,
            Self::Lost => FailureKind::Unknown,
        }
    }
}

/// What one attempt of a script does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Succeed,
    Fail(DoorError),
    /// Runs until it is dropped.
    Hang,
}

/// When an attempt began and ended, as the door saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) step: Step,
    pub(crate) began_at: Instant,
    pub(crate) attempt: Attempt,
}

/// A door that does one step an attempt, and the last one for ever.
#[derive(Default)]
pub(crate) struct Script {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<Seen>>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: Mutex::new(steps.into_iter().collect()),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn failing(error: DoorError) -> Self {
        Self::new([Step::Fail(error)])
    }

    pub(crate) async fn attempt(&self, attempt: Attempt) -> Result<(), DoorError> {
        let step = self.take();
        self.seen.lock().unwrap().push(Seen {
            step,
            began_at: Instant::now(),
            attempt,
        });
        match step {
            Step::Succeed => Ok(()),
            Step::Fail(error) => Err(error),
            Step::Hang => std::future::pending().await,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn take(&self) -> Step {
        let mut steps = self.steps.lock().unwrap();
        let step = *steps.front().unwrap();
        if steps.len() > 1 {
            steps.pop_front();
        }
        step
    }
}

/// Everything an observer was told, in order.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Told>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Attempt {
        number: u32,
        read_back: bool,
        outcome: Outcome,
        error: Option<String>,
    },
    Pause {
        length: Duration,
        cause: PauseCause,
    },
    GaveUp {
        attempts: u32,
        reason: GiveUpReason,
    },
    Budget {
        tokens: f64,
    },
    Breaker {
        state: &'static str,
        open_for: Option<Duration>,
    },
    Nested {
        inner: String,
        outer: String,
    },
}

impl Recorder {
    pub(crate) fn told(&self) -> Vec<Told> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn pauses(&self) -> Vec<(Duration, PauseCause)> {
        let pause = |told: Told| match told {
            Told::Pause { length, cause } => Some((length, cause)),
            Told::Attempt { .. }
            | Told::GaveUp { .. }
            | Told::Budget { .. }
            | Told::Breaker { .. }
            | Told::Nested { .. } => None,
        };
        self.told().into_iter().filter_map(pause).collect()
    }

    pub(crate) fn lengths(&self) -> Vec<Duration> {
        self.pauses()
            .into_iter()
            .map(|(length, _)| length)
            .collect()
    }
}

impl Observer for Recorder {
    fn event(&self, event: &RetryEvent<'_>) {
        let text = |error: &(dyn Error + 'static)| error.to_string();
        let told = match *event {
            RetryEvent::Attempt {
                number,
                read_back,
                outcome,
                error,
                ..
            } => Told::Attempt {
                number,
                read_back,
                outcome,
                error: error.map(text),
            },
            RetryEvent::Pause { length, cause, .. } => Told::Pause { length, cause },
            RetryEvent::GaveUp {
                attempts, reason, ..
            } => Told::GaveUp { attempts, reason },
            RetryEvent::Budget { tokens, .. } => Told::Budget { tokens },
            RetryEvent::Breaker {
                state, open_for, ..
            } => Told::Breaker {
                state: state.as_str(),
                open_for,
            },
            RetryEvent::Nested {
                peer,
                operation,
                outer_peer,
                outer_operation,
            } => Told::Nested {
                inner: format!("{peer}: {operation}"),
                outer: format!("{outer_peer}: {outer_operation}"),
            },
        };
        self.events.lock().unwrap().push(told);
    }
}

/// Pauses of 100 ms to 1 s, 5 attempts, 1 min; budget and breaker out of the way.
pub(crate) fn plain() -> RetryPolicy {
    RetryPolicy {
        first_pause: Duration::from_millis(100),
        pause_max: Duration::from_secs(1),
        throttled_first_pause: Duration::from_secs(2),
        throttled_pause_max: Duration::from_secs(20),
        jitter: 0.5,
        immediate_retry: false,
        attempts_max: 5,
        attempt_timeout: Duration::from_secs(10),
        total_deadline: Duration::from_secs(60),
        budget: BudgetPolicy {
            ratio: 0.5,
            floor_per_minute: 60,
            burst_max: 1_000,
        },
        breaker: BreakerPolicy {
            failures: 1_000,
            ..BreakerPolicy::default()
        },
    }
}

pub(crate) fn peer_seeded(policy: RetryPolicy, seed: u64) -> (Peer, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let peer = Peer::new(
        "store",
        policy,
        seed,
        Arc::clone(&recorder) as Arc<dyn Observer>,
    );
    (peer.unwrap(), recorder)
}

pub(crate) fn peer(policy: RetryPolicy) -> (Peer, Arc<Recorder>) {
    peer_seeded(policy, 7)
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
