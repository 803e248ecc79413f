//! Many requests at once.

use std::collections::BTreeMap;

use stamp_model::StampId;

use super::answer::{Answer, Outcome, Why};
use super::planner::{Planner, Request};
use super::usage::Usage;
use crate::fleet::{Environment, Placing};
use crate::load::Load;

impl Planner<'_> {
    /// Answers many requests, adds what is placed to `usage`, and returns the answers in the order
    /// of the requests. Answers do not depend on that order: what has a place is dealt with first,
    /// then what the catalogue names, then the rest, the largest first. Devices of a tenant that the
    /// same call places follow it.
    pub fn place_all(&self, usage: &mut Usage, requests: &[Request]) -> Vec<Answer> {
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_cached_key(|&index| self.turn(&requests[index]));
        let mut homes: BTreeMap<(&str, Environment), StampId> = BTreeMap::new();
        let mut answers: Vec<Option<Answer>> = vec![None; requests.len()];
        for index in order {
            let answer = self.next_of_many(usage, &requests[index], &homes);
            if let Some(stamp) = answer.stamp() {
                let key = (requests[index].tenant.as_str(), answer.environment);
                homes.entry(key).or_insert_with(|| stamp.clone());
            }
            answers[index] = Some(answer);
        }
        answers.into_iter().flatten().collect()
    }

    fn next_of_many(
        &self,
        usage: &mut Usage,
        request: &Request,
        homes: &BTreeMap<(&str, Environment), StampId>,
    ) -> Answer {
        let mut request = request.clone();
        let environment = self.environment_of(&request);
        let home = homes.get(&(request.tenant.as_str(), environment));
        if let (Some(home), true, None) = (home, request.device.is_some(), &request.home) {
            request.home = Some(home.clone());
            request.needs[crate::load::Axis::Tenants] = 0;
        }
        let answer = self.place(usage, &request);
        if let Outcome::Placed { stamp, why, .. } = &answer.outcome
            && *why != Why::Stays
        {
            // A request that leaves a stamp is still counted there: it is there until it was moved.
            usage.add(self.fleet, stamp, request.needs);
        }
        answer
    }

    /// When it is a request's turn: one that is placed, one that is named, the largest, by name.
    fn turn(&self, request: &Request) -> impl Ord + use<> {
        let named = self
            .fleet
            .tenant(&request.tenant)
            .is_some_and(|tenant| matches!(tenant.placing, Placing::Stamps(_)));
        let device = request.device.as_ref().map(|d| d.as_str().to_owned());
        (
            request.current.is_none(),
            !named,
            device.is_some(),
            std::cmp::Reverse(weight(request.needs)),
            request.tenant.clone(),
            device,
            request.environment,
        )
    }
}

/// Size of a request for the order only: devices first, then the other axes.
fn weight(needs: Load) -> [u64; 5] {
    crate::load::Axis::ALL.map(|axis| needs[axis])
}
