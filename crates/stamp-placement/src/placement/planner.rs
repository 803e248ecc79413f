//! One request at a time.

use std::collections::BTreeMap;

use stamp_model::{DeviceId, StampId, TenantId};

use super::FILL_STEPS;
use super::answer::{Answer, Objection, Outcome, Refusal, Rejected, Why};
use super::usage::Usage;
use crate::fleet::{
    Environment, Fleet, Kind, Placing, Ring, Stamp, StampState, Tenant, TenantState,
};
use crate::load::{Axis, Load};
use crate::rendezvous::{hash, score};

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The tenant, or the tenant of the device.
    pub tenant: TenantId,
    /// A device; the tenant itself when there is none.
    pub device: Option<DeviceId>,
    /// Where it is to be; the tenant's own environment when not given.
    pub environment: Option<Environment>,
    /// What it needs beyond what the usage counts already.
    pub needs: Load,
    /// The stamp that the tenant (or the device) is on now. The usage counts it already.
    pub current: Option<StampId>,
    /// Of a device: the stamp that its tenant is on in this environment.
    pub home: Option<StampId>,
}

impl Request {
    /// Places a tenant with what the catalogue expects it to need.
    #[must_use]
    pub fn tenant(tenant: &Tenant) -> Self {
        Self {
            tenant: tenant.id.clone(),
            device: None,
            environment: None,
            needs: tenant.expected,
            current: None,
            home: None,
        }
    }

    /// Places one device of a tenant that is on `home`.
    #[must_use]
    pub fn device(tenant: TenantId, device: DeviceId, home: Option<StampId>) -> Self {
        // Whoever has no home yet is placed as a tenant with one device.
        let tenants = u64::from(home.is_none());
        Self {
            tenant,
            device: Some(device),
            environment: None,
            needs: Load::ZERO
                .with(Axis::Devices, 1)
                .with(Axis::Tenants, tenants),
            current: None,
            home,
        }
    }
}

/// What a stamp must be for a request.
pub(super) struct Wanted<'f> {
    pub(super) tenant: &'f Tenant,
    pub(super) environment: Environment,
    /// `None`: the stamp is named, its kind and ring are the operator's choice.
    rule: Option<(Kind, &'f [Ring])>,
}

/// Places tenants and devices on the stamps of one fleet.
///
/// It holds what can be worked out beforehand, so that an answer takes microseconds.
#[derive(Debug)]
pub struct Planner<'f> {
    pub(super) fleet: &'f Fleet,
    /// Stamps by what a filter asks for exactly.
    groups: BTreeMap<(String, Environment, Kind), Vec<usize>>,
    /// Hash of each stamp's id.
    hashes: Vec<u64>,
    /// Share of each stamp among equals: its hard limit on devices.
    weights: Vec<f64>,
}

/// What counts before the tie-break. Smaller is better; nothing of it depends on other stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    over_soft: bool,
    ring: usize,
    fill: u32,
}

impl<'f> Planner<'f> {
    /// A planner for this fleet.
    #[must_use]
    pub fn new(fleet: &'f Fleet) -> Self {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, stamp) in fleet.stamps().iter().enumerate() {
            let key = (stamp.geography.clone(), stamp.environment, stamp.kind);
            groups.entry(key).or_default().push(index);
        }
        let hashes = fleet
            .stamps()
            .iter()
            .map(|s| hash(&[s.id.as_str()]))
            .collect();
        let one = Load::ZERO.with(Axis::Devices, 1);
        let weight = |stamp: &Stamp| stamp.capacity.fill(one).recip();
        let weights = fleet.stamps().iter().map(weight).collect();
        Self {
            fleet,
            groups,
            hashes,
            weights,
        }
    }

    /// Answers one request. Reasons of stamps that were not taken are left out.
    ///
    /// Guaranteed: the stamp is in a geography of the tenant's and in the environment asked for; it
    /// is not over a hard limit with the request, unless the request is there already; a stamp that
    /// is added to the fleet changes an answer only to that stamp. When requests are placed one after
    /// the other on stamps with the same rule and the same soft limits in proportion to the hard
    /// ones, their fills end within `1 / FILL_STEPS` plus the largest request of each other.
    #[must_use]
    pub fn place(&self, usage: &Usage, request: &Request) -> Answer {
        self.answer(usage, request, false)
    }

    /// The same answer, with every stamp that was not taken and all reasons.
    #[must_use]
    pub fn explain(&self, usage: &Usage, request: &Request) -> Answer {
        self.answer(usage, request, true)
    }

    fn answer(&self, usage: &Usage, request: &Request, explain: bool) -> Answer {
        let tenant = self.fleet.tenant(&request.tenant);
        let environment = self.environment_of(request);
        let mut rejected = Vec::new();
        let outcome = match tenant {
            None => Outcome::Refused(Refusal::UnknownTenant),
            Some(tenant) => {
                let wanted = Wanted::of(tenant, environment);
                let (outcome, taken) = self.decide(usage, request, &wanted);
                if explain {
                    rejected = self.rejected(usage, request, &wanted, taken);
                }
                outcome
            }
        };
        Answer {
            tenant: request.tenant.clone(),
            device: request
                .device
                .as_ref()
                .map(|device| device.as_str().to_owned()),
            environment,
            outcome,
            rejected,
        }
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &'f Fleet {
        self.fleet
    }

    /// The environment that is asked for, or the tenant's own.
    #[must_use]
    pub fn environment_of(&self, request: &Request) -> Environment {
        if let Some(environment) = request.environment {
            return environment;
        }
        match self
            .fleet
            .tenant(&request.tenant)
            .map(|tenant| &tenant.placing)
        {
            Some(Placing::Rule { environment, .. }) => *environment,
            Some(Placing::Stamps(stamps)) => {
                let of = |id| self.fleet.stamp(id).map(|stamp| stamp.environment);
                stamps
                    .iter()
                    .filter_map(of)
                    .max()
                    .unwrap_or(Environment::Production)
            }
            None => Environment::Production,
        }
    }

    /// The parent of every branch: where it is, where its tenant is, where it is named, or ranked.
    fn decide(
        &self,
        usage: &Usage,
        request: &Request,
        wanted: &Wanted<'_>,
    ) -> (Outcome, Option<usize>) {
        let refuse = |refusal| (Outcome::Refused(refusal), None);
        let state = wanted.tenant.state;
        if state == TenantState::Offboarded {
            return refuse(Refusal::TenantState(state));
        }
        if let Some(index) = self.stays(request, wanted) {
            return self.placed(usage, Load::ZERO, index, Why::Stays);
        }
        if state == TenantState::Suspended {
            return refuse(Refusal::TenantState(state));
        }
        if let Some(home) = request.home.as_ref().filter(|_| request.device.is_some()) {
            return self.only(usage, request, wanted, home, Why::Home);
        }
        if let Placing::Stamps(named) = &wanted.tenant.placing {
            let fits = |id: &&StampId| {
                self.fleet
                    .stamp(id)
                    .is_some_and(|s| s.environment == wanted.environment)
            };
            return match named.iter().find(fits) {
                Some(stamp) => self.only(usage, request, wanted, stamp, Why::Named),
                None => refuse(Refusal::NoneNamed),
            };
        }
        self.ranked(usage, request, wanted)
    }

    /// The stamp that the request is on, when it may stay. A device does not stay when its tenant is
    /// elsewhere.
    fn stays(&self, request: &Request, wanted: &Wanted<'_>) -> Option<usize> {
        let current = request.current.as_ref()?;
        if request.device.is_some() && request.home.as_ref().is_some_and(|home| home != current) {
            return None;
        }
        if let Placing::Stamps(named) = &wanted.tenant.placing
            && !named.contains(current)
        {
            return None;
        }
        let index = self.fleet.stamp_index(current)?;
        let stamp = &self.fleet.stamps()[index];
        let serves = matches!(stamp.state, StampState::Active | StampState::Draining);
        let mut lasting = Vec::new();
        wanted.object(stamp, &mut lasting);
        (serves && lasting.is_empty()).then_some(index)
    }

    /// There is one stamp it may go to.
    fn only(
        &self,
        usage: &Usage,
        request: &Request,
        wanted: &Wanted<'_>,
        stamp: &StampId,
        why: Why,
    ) -> (Outcome, Option<usize>) {
        let refuse = |objections| {
            let stamp = stamp.clone();
            (Outcome::Refused(Refusal::Home { stamp, objections }), None)
        };
        let Some(index) = self.fleet.stamp_index(stamp) else {
            return refuse(vec![Objection::Unknown]);
        };
        let objections = self.objections(usage, request, wanted, index);
        // Its tenant is there, so more of it may come while the stamp is emptied.
        let draining = Objection::State(StampState::Draining);
        let matters = |o: &Objection| !(why == Why::Home && *o == draining);
        if objections.iter().any(matters) {
            return refuse(objections);
        }
        self.placed(usage, request.needs, index, why)
    }

    fn ranked(
        &self,
        usage: &Usage,
        request: &Request,
        wanted: &Wanted<'_>,
    ) -> (Outcome, Option<usize>) {
        let request_hash = hash(&[wanted.tenant.id.as_str(), wanted.environment.as_str()]);
        let (mut fitting, mut full) = (0, 0);
        let mut best: Option<(Class, f64, usize)> = None;
        for index in self.candidates(wanted).into_iter().flatten().copied() {
            let stamp = &self.fleet.stamps()[index];
            if stamp.state != StampState::Active || !wanted.accepts(stamp) {
                continue;
            }
            let after = usage.loads[index].plus(request.needs);
            if stamp.capacity.over_hard(after).is_some() {
                full += 1;
                continue;
            }
            fitting += 1;
            let class = wanted.class(stamp, after);
            if best.is_some_and(|(least, ..)| class > least) {
                continue;
            }
            let score = score(request_hash, self.hashes[index], self.weights[index]);
            if best.is_none_or(|(least, highest, _)| class < least || score > highest) {
                best = Some((class, score, index));
            }
        }
        match best {
            Some((.., index)) => self.placed(usage, request.needs, index, Why::Ranked { fitting }),
            None => (Outcome::Refused(Refusal::NoneFits { full }), None),
        }
    }

    /// Stamps in the tenant's geographies, of the right environment and kind, in groups that are by
    /// id. Equal ranks cannot occur in practice; the first one wins then.
    fn candidates(&self, wanted: &Wanted<'_>) -> Vec<&[usize]> {
        let kinds = match wanted.rule {
            Some((kind, _)) => vec![kind],
            None => vec![Kind::Shared, Kind::Dedicated],
        };
        let mut geographies = wanted.tenant.geographies.clone();
        geographies.sort_unstable();
        geographies.dedup();
        let mut groups = Vec::new();
        for geography in geographies {
            for kind in &kinds {
                let key = (geography.clone(), wanted.environment, *kind);
                groups.extend(self.groups.get(&key).map(Vec::as_slice));
            }
        }
        groups
    }

    fn placed(
        &self,
        usage: &Usage,
        needs: Load,
        index: usize,
        why: Why,
    ) -> (Outcome, Option<usize>) {
        let stamp = &self.fleet.stamps()[index];
        let after = usage.loads[index].plus(needs);
        let outcome = Outcome::Placed {
            stamp: stamp.id.clone(),
            why,
            fill: stamp.capacity.fill(after),
            over_soft: stamp.capacity.over_soft(after).collect(),
        };
        (outcome, Some(index))
    }

    /// Everything that speaks against a stamp for a request that is not there yet.
    fn objections(
        &self,
        usage: &Usage,
        request: &Request,
        wanted: &Wanted<'_>,
        index: usize,
    ) -> Vec<Objection> {
        let stamp = &self.fleet.stamps()[index];
        let mut objections = Vec::new();
        wanted.object(stamp, &mut objections);
        if stamp.state != StampState::Active {
            objections.push(Objection::State(stamp.state));
        }
        let (used, needs) = (usage.loads[index], request.needs);
        let after = used.plus(needs);
        for axis in Axis::ALL {
            let hard = stamp.capacity[axis].hard;
            if after[axis] > hard {
                let (used, needs) = (used[axis], needs[axis]);
                objections.push(Objection::Full {
                    axis,
                    used,
                    needs,
                    hard,
                });
            }
        }
        objections
    }

    fn rejected(
        &self,
        usage: &Usage,
        request: &Request,
        wanted: &Wanted<'_>,
        taken: Option<usize>,
    ) -> Vec<Rejected> {
        let others = (0..self.fleet.stamps().len()).filter(|&index| Some(index) != taken);
        let reason = |index: usize| Rejected {
            stamp: self.fleet.stamps()[index].id.clone(),
            objections: self.objections(usage, request, wanted, index),
        };
        others.map(reason).collect()
    }
}

impl<'f> Wanted<'f> {
    pub(super) fn of(tenant: &'f Tenant, environment: Environment) -> Self {
        let rule = match &tenant.placing {
            Placing::Rule {
                kind,
                rings,
                environment: home,
            } => {
                // A dedicated tenant tries things out among others; its own stamp is the real one.
                let kind = if environment == *home {
                    *kind
                } else {
                    Kind::Shared
                };
                Some((kind, rings.as_slice()))
            }
            Placing::Stamps(_) => None,
        };
        Self {
            tenant,
            environment,
            rule,
        }
    }

    /// What speaks against a stamp for good, whatever is used of it.
    fn object(&self, stamp: &Stamp, objections: &mut Vec<Objection>) {
        if !self.tenant.geographies.contains(&stamp.geography) {
            objections.push(Objection::Geography(stamp.geography.clone()));
        }
        if stamp.environment != self.environment {
            objections.push(Objection::Environment(stamp.environment));
        }
        if let Some((kind, rings)) = self.rule {
            if stamp.kind != kind {
                objections.push(Objection::Kind(stamp.kind));
            }
            if self.ring_matters() && !rings.contains(&stamp.ring) {
                objections.push(Objection::Ring(stamp.ring));
            }
        }
        if let Some(owner) = stamp
            .dedicated_to
            .as_ref()
            .filter(|o| **o != self.tenant.id)
        {
            objections.push(Objection::DedicatedTo(owner.clone()));
        }
    }

    /// Whether [`object`](Self::object) has nothing against one of the candidates, whose geography,
    /// environment and kind are right.
    fn accepts(&self, stamp: &Stamp) -> bool {
        let ring = self
            .rule
            .is_none_or(|(_, rings)| !self.ring_matters() || rings.contains(&stamp.ring));
        ring && stamp
            .dedicated_to
            .as_ref()
            .is_none_or(|owner| *owner == self.tenant.id)
    }

    fn class(&self, stamp: &Stamp, after: Load) -> Class {
        let rings = self.rule.map_or(&[][..], |(_, rings)| rings);
        Class {
            over_soft: stamp.capacity.over_soft(after).next().is_some(),
            ring: rings
                .iter()
                .position(|ring| *ring == stamp.ring)
                .unwrap_or(0),
            fill: step(stamp.capacity.fill(after)),
        }
    }

    /// Rings protect production from changes; a test stamp of any ring is fit for a test.
    fn ring_matters(&self) -> bool {
        self.environment == Environment::Production
    }
}

/// How full, in steps.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fill that fits is 0 to 1"
)]
fn step(fill: f64) -> u32 {
    (fill * f64::from(FILL_STEPS)) as u32
}
