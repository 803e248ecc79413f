//! Several provisioners on one database.

use std::collections::BTreeMap;

use crate::support::{World, catalogue, production, registration};

/// Fault scenario 52.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_provisioners_never_give_away_more_than_there_is() {
    for world in World::both(&catalogue(&[production("eu-1", 12)], "")) {
        let all = [
            world.start("").await,
            world.start("# the other one\n").await,
        ];
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..30 {
            let address = all[number % 2].address;
            calls.spawn(async move {
                let body = registration(&format!("press-{number}"), &["eu-1"]).to_string();
                let target = format!("/v1/allocate?code={}", crate::support::KEY);
                // Busy for too long is an answer too, and nothing was done then: ask again.
                loop {
                    let answer = crate::support::ask(address, "POST", &target, "", &body).await;
                    if answer.status != 503 {
                        return answer;
                    }
                }
            });
        }
        let answers = calls.join_all().await;
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for answer in &answers {
            *counts.entry(answer.status).or_default() += 1;
        }
        assert_eq!(counts, BTreeMap::from([(200, 12), (409, 18)]));
        assert_eq!(world.booked("eu-1").await, 12);
        for running in all {
            running.stop().await;
        }
    }
}

/// Fault scenario 52.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_asks_two_provisioners_at_once_gets_one_answer() {
    for world in World::both(&catalogue(
        &[
            production("eu-1", 50),
            production("eu-2", 50),
            production("eu-3", 50),
        ],
        "",
    )) {
        let [a, b] = [
            world.start("").await,
            world.start("# the other one\n").await,
        ];
        for number in 0..10 {
            // DPS lists the hubs in any order.
            let device = format!("press-{number}");
            let one = registration(&device, &["eu-1", "eu-2", "eu-3"]);
            let other = registration(&device, &["eu-3", "eu-2", "eu-1"]);
            let (one, other) = tokio::join!(a.allocate(&one), b.allocate(&other));
            assert_eq!(one.stamp(), other.stamp(), "{device}");
        }
        let mut sum = 0;
        for stamp in ["eu-1", "eu-2", "eu-3"] {
            sum += world.booked(stamp).await;
        }
        assert_eq!(sum, 10);
        a.stop().await;
        b.stop().await;
    }
}
