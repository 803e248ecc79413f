//! A replay that another one overtakes, held at gates so that it surely is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use stamp_consumer::{ReplayOptions, ReplaySource};
use stamp_lake::faults::Fault;

use crate::support::{EVENTS, World, partition};

/// A moment in a replay that waits until the test lets it go on.
#[derive(Default)]
struct Gate {
    /// Whether it was reached, and whether it is open.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    /// The replay comes by, on a blocking thread.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    async fn reached(self: &Arc<Self>) {
        let gate = self.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let mut state = gate.state.lock().unwrap();
            while !state.0 {
                state = gate.changed.wait(state).unwrap();
            }
        });
        waited.await.unwrap();
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_overtaken_in_the_middle_of_what_it_carries_out_adds_only_the_rest() {
    let world = World::settled().await;
    let [decides, one_writes, one_writes_again, two_writes] =
        [(); 4].map(|()| Arc::new(Gate::default()));
    let (gate, later) = (one_writes.clone(), one_writes_again.clone());
    let commits = AtomicU64::new(0);
    let one = world.lake.with_faults(move |request| {
        if request.is_commit() && request.path.contains("/readings/") {
            match commits.fetch_add(1, Ordering::AcqRel) {
                0 => gate.pass(),
                _ => later.pass(),
            }
        }
        Fault::None
    });
    let (gate, later) = (decides.clone(), two_writes.clone());
    let two = world.lake.with_faults(move |request| {
        match request.path {
            path if request.is_commit() && path.contains("/replays/") => gate.pass(),
            path if request.is_commit() && path.contains("/readings/") => later.pass(),
            _ => {}
        }
        Fault::None
    });
    let of = |number: u32| ReplayOptions {
        partition: Some(partition(number)),
        ..ReplayOptions::all(ReplaySource::Rejected)
    };
    let (of_one, of_two) = (of(0), of(1));

    // So that the gates stand at the events' own commits: the marks are settled by this one.
    world.replay(ReplaySource::Quarantine).await;
    // The first decides on its events alone; the second then has to carry out those of both.
    let first = async {
        decides.reached().await;
        World::run(&one, 1, &of_one).await.unwrap().returned
    };
    let second = async {
        let report = World::run(&two, 2, &of_two).await.unwrap();
        one_writes_again.open();
        report.returned
    };
    let gates = async {
        one_writes.reached().await;
        decides.open();
        two_writes.reached().await;
        one_writes.open();
        // The first goes on with what the second decided: now that one is let go.
        one_writes_again.reached().await;
        two_writes.open();
    };
    assert_eq!(tokio::join!(first, second, gates), (2, 2, ()));

    world.assert_all_is_back(EVENTS).await;
}
