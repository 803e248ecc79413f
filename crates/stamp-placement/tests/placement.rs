//! The promises of placement, on fleets and requests nobody picked.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use proptest::prelude::*;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::placement::{FILL_STEPS, Objection, Outcome, Refusal, Why};
use stamp_placement::sku::{EventHubTier, IotHubTier};
use stamp_placement::{
    Axis, Capacity, Environment, EventHub, Fleet, IotHub, Kind, Limit, Load, Placing, Planner,
    Quota, Request, Ring, Service, Stamp, StampState, Tenant, TenantState, Usage,
};

const GEOGRAPHIES: [&str; 3] = ["asia", "europe", "unitedstates"];

fn stamp(name: &str, devices: u64) -> Stamp {
    Stamp {
        id: StampId::parse(name).unwrap(),
        region: "westeurope".into(),
        geography: "europe".into(),
        kind: Kind::Shared,
        dedicated_to: None,
        environment: Environment::Production,
        ring: Ring::General,
        version: "1".into(),
        state: StampState::Active,
        iot_hub: IotHub {
            name: name.into(),
            tier: IotHubTier::S3,
            units: 10,
        },
        event_hub: EventHub {
            namespace: name.into(),
            hub: "t".into(),
            tier: EventHubTier::BuiltIn,
            units: 0,
            partitions: 32,
            consumer_group: "$Default".into(),
        },
        storage_root: format!("az://{name}/t"),
        tenant_containers: false,
        metrics: Vec::new(),
        capacity: Capacity::new(|axis| {
            let hard = if axis == Axis::Devices {
                devices
            } else {
                1_000_000
            };
            Limit {
                soft: hard / 10 * 8,
                hard,
            }
        }),
        service: Service {
            replicas_min: 1,
            replicas_max: 1,
            cpu_millicores: 1_000,
            memory_bytes: 1 << 30,
            identity: None,
        },
    }
}

fn tenant(name: &str, devices: u64) -> Tenant {
    Tenant {
        id: TenantId::parse(name).unwrap(),
        geographies: vec!["europe".into()],
        tier: "standard".into(),
        state: TenantState::Active,
        placing: Placing::Rule {
            kind: Kind::Shared,
            environment: Environment::Production,
            rings: vec![Ring::General, Ring::Early],
        },
        schema: "s.toml".into(),
        devices: Vec::new(),
        quota: Quota::default(),
        expected: Load::ZERO
            .with(Axis::Tenants, 1)
            .with(Axis::Devices, devices),
    }
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    let words = (
        0..3_usize,
        any::<bool>(),
        any::<bool>(),
        0..3_usize,
        0..8_usize,
    );
    (words, 100..5_000_u64, 1..20_u64, 5..=10_u64).prop_map(|(words, devices, tenants, soft)| {
        let (geography, dedicated, test, ring, state) = words;
        let mut stamp = stamp("x", devices);
        stamp.geography = GEOGRAPHIES[geography].into();
        stamp.kind = if dedicated {
            Kind::Dedicated
        } else {
            Kind::Shared
        };
        stamp.environment = if test {
            Environment::Test
        } else {
            Environment::Production
        };
        stamp.ring = [Ring::Canary, Ring::Early, Ring::General][ring];
        stamp.state = match state {
            0 => StampState::Planned,
            1 => StampState::Draining,
            2 => StampState::Closed,
            _ => StampState::Active,
        };
        stamp.capacity = Capacity::new(|axis| {
            let hard = match axis {
                Axis::Devices => devices,
                Axis::Tenants if dedicated => 1,
                Axis::Tenants => tenants,
                _ => 10_000,
            };
            Limit {
                soft: hard * soft / 10,
                hard,
            }
        });
        stamp
    })
}

fn any_tenant() -> impl Strategy<Value = Tenant> {
    let geographies = proptest::sample::subsequence(GEOGRAPHIES.to_vec(), 1..=3);
    let rings =
        proptest::sample::subsequence(vec![Ring::Canary, Ring::Early, Ring::General], 1..=3);
    let words = (
        any::<bool>(),
        any::<bool>(),
        0..10_usize,
        0..400_u64,
        0..3_000_u64,
    );
    (geographies, rings.prop_shuffle(), words).prop_map(|(geographies, rings, words)| {
        let (dedicated, test, state, devices, events) = words;
        let mut tenant = tenant("x", devices);
        tenant.geographies = geographies.into_iter().map(Into::into).collect();
        tenant.state = match state {
            0 => TenantState::Suspended,
            1 => TenantState::Offboarded,
            _ => TenantState::Active,
        };
        tenant.placing = Placing::Rule {
            kind: if dedicated {
                Kind::Dedicated
            } else {
                Kind::Shared
            },
            environment: if test {
                Environment::Test
            } else {
                Environment::Production
            },
            rings,
        };
        tenant.expected[Axis::EventsPerSecond] = events;
        tenant
    })
}

prop_compose! {
    fn any_fleet()(
        stamps in prop::collection::vec(any_stamp(), 1..12),
        tenants in prop::collection::vec(any_tenant(), 1..30),
    ) -> Fleet {
        let named = |i: usize, mut stamp: Stamp| {
            stamp.id = StampId::parse(&format!("s-{i}")).unwrap();
            stamp
        };
        let called = |i: usize, mut tenant: Tenant| {
            tenant.id = TenantId::parse(&format!("t-{i}")).unwrap();
            tenant
        };
        let stamps = stamps.into_iter().enumerate().map(|(i, s)| named(i, s)).collect();
        let tenants = tenants.into_iter().enumerate().map(|(i, t)| called(i, t)).collect();
        Fleet::new("image".into(), stamps, tenants)
    }
}

fn requests(fleet: &Fleet) -> Vec<Request> {
    fleet.tenants().iter().map(Request::tenant).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_ever_placed_where_it_may_not_be_or_over_a_hard_limit(fleet in any_fleet()) {
        let planner = Planner::new(&fleet);
        let mut usage = Usage::none(&fleet);
        let requests = requests(&fleet);
        for answer in planner.place_all(&mut usage, &requests) {
            let tenant = fleet.tenant(&answer.tenant).unwrap();
            let Some(id) = answer.stamp() else { continue };
            let stamp = fleet.stamp(id).unwrap();
            prop_assert!(tenant.geographies.contains(&stamp.geography));
            prop_assert_eq!(stamp.state, StampState::Active);
            prop_assert_eq!(stamp.environment, answer.environment);
            prop_assert_eq!(tenant.state, TenantState::Active);
            let Placing::Rule { kind, rings, .. } = &tenant.placing else { unreachable!() };
            prop_assert_eq!(stamp.kind, *kind);
            let test = stamp.environment == Environment::Test;
            prop_assert!(test || rings.contains(&stamp.ring));
        }
        for stamp in fleet.stamps() {
            prop_assert_eq!(stamp.capacity.over_hard(usage.of(&fleet, &stamp.id)), None);
        }
    }

    #[test]
    fn a_refusal_is_only_for_want_of_a_stamp_that_fits(fleet in any_fleet()) {
        let planner = Planner::new(&fleet);
        let mut usage = Usage::none(&fleet);
        for request in requests(&fleet) {
            let answer = planner.explain(&usage, &request);
            let fits = answer.rejected.iter().any(|rejected| rejected.objections.is_empty());
            if matches!(answer.outcome, Outcome::Refused(Refusal::NoneFits { .. })) {
                prop_assert!(!fits, "{:?}", answer);
            }
            prop_assert_eq!(&answer.outcome, &planner.place(&usage, &request).outcome);
            let told = answer.rejected.len() + usize::from(answer.stamp().is_some());
            let known = !matches!(answer.outcome, Outcome::Refused(Refusal::UnknownTenant));
            prop_assert!(!known || told == fleet.stamps().len());
            if let Some(stamp) = answer.stamp() {
                usage.add(&fleet, stamp, request.needs);
            }
        }
    }

    #[test]
    fn answers_do_not_depend_on_the_order_of_stamps_or_requests(
        fleet in any_fleet(),
        seed in any::<u64>(),
    ) {
        let shuffled = {
            let mut stamps = fleet.stamps().to_vec();
            let by = seed as usize % stamps.len();
            stamps.rotate_left(by);
            stamps.reverse();
            Fleet::new("image".into(), stamps, fleet.tenants().to_vec())
        };
        let mut requests = requests(&fleet);
        let forward = Planner::new(&fleet).place_all(&mut Usage::none(&fleet), &requests);
        requests.reverse();
        let mut back = Planner::new(&shuffled).place_all(&mut Usage::none(&shuffled), &requests);
        back.reverse();
        prop_assert_eq!(forward, back);
    }

    #[test]
    fn what_is_placed_stays_whatever_is_added_beside_it(
        fleet in any_fleet(),
        more in any_stamp(),
    ) {
        let mut usage = Usage::none(&fleet);
        let mut requests = requests(&fleet);
        let before = Planner::new(&fleet).place_all(&mut usage, &requests);
        let mut stamps = fleet.stamps().to_vec();
        stamps.push(Stamp { id: StampId::parse("s-new").unwrap(), ..more });
        let larger = Fleet::new("image".into(), stamps, fleet.tenants().to_vec());
        let mut larger_usage = Usage::none(&larger);
        for stamp in fleet.stamps() {
            larger_usage.set(&larger, &stamp.id, usage.of(&fleet, &stamp.id));
        }
        for (request, answer) in requests.iter_mut().zip(&before) {
            request.current = answer.stamp().cloned();
        }
        let after = Planner::new(&larger).place_all(&mut larger_usage, &requests);
        for (before, after) in before.iter().zip(&after) {
            if let Some(stamp) = before.stamp() {
                prop_assert_eq!(after.stamp(), Some(stamp));
                let stays = matches!(after.outcome, Outcome::Placed { why: Why::Stays, .. });
                prop_assert!(stays);
            }
        }
    }

    #[test]
    fn a_stamp_that_is_added_changes_an_answer_only_to_itself(
        fleet in any_fleet(),
        more in any_stamp(),
        used in prop::collection::vec(0..5_000_u64, 12),
    ) {
        let mut stamps = fleet.stamps().to_vec();
        let new = StampId::parse("s-new").unwrap();
        stamps.push(Stamp { id: new.clone(), ..more });
        let larger = Fleet::new("image".into(), stamps, fleet.tenants().to_vec());
        let (mut usage, mut larger_usage) = (Usage::none(&fleet), Usage::none(&larger));
        for (stamp, used) in fleet.stamps().iter().zip(used) {
            let load = Load::ZERO.with(Axis::Devices, used);
            usage.set(&fleet, &stamp.id, load);
            larger_usage.set(&larger, &stamp.id, load);
        }
        for request in requests(&fleet) {
            let before = Planner::new(&fleet).place(&usage, &request);
            let after = Planner::new(&larger).place(&larger_usage, &request);
            if after.stamp() != Some(&new) {
                prop_assert_eq!(after.stamp(), before.stamp());
            }
        }
    }

    #[test]
    fn stamps_fill_evenly_to_within_a_step_and_a_request(
        sizes in prop::collection::vec(1_000..50_000_u64, 2..10),
        needs in prop::collection::vec(1..100_u64, 50..200),
    ) {
        let stamps: Vec<Stamp> = sizes
            .iter()
            .enumerate()
            .map(|(i, &devices)| stamp(&format!("s-{i}"), devices / 10 * 10))
            .collect();
        let tenants: Vec<Tenant> = needs
            .iter()
            .enumerate()
            .map(|(i, &devices)| tenant(&format!("t-{i}"), devices))
            .collect();
        let fleet = Fleet::new("image".into(), stamps, tenants);
        let planner = Planner::new(&fleet);
        let mut usage = Usage::none(&fleet);
        let largest = 100.0 / 1_000.0;
        for request in requests(&fleet) {
            let answer = planner.place(&usage, &request);
            let Some(stamp) = answer.stamp() else { continue };
            usage.add(&fleet, stamp, request.needs);
            let fills: Vec<f64> = fleet
                .stamps()
                .iter()
                .map(|stamp| stamp.capacity.fill(usage.of(&fleet, &stamp.id)))
                .collect();
            let least = fills.iter().copied().fold(f64::INFINITY, f64::min);
            let most = fills.iter().copied().fold(0.0, f64::max);
            prop_assert!(most - least <= 1.0 / f64::from(FILL_STEPS) + largest, "{fills:?}");
        }
    }
}

/// Four stamps of different sizes, 2,000 small tenants, nothing ever near a limit.
fn spread(stamps: &[(&str, u64)]) -> Vec<StampId> {
    let tenants = (0..2_000).map(|i| tenant(&format!("t-{i}"), 1)).collect();
    let stamps = stamps
        .iter()
        .map(|(name, devices)| stamp(name, *devices))
        .collect();
    let fleet = Fleet::new("image".into(), stamps, tenants);
    let planner = Planner::new(&fleet);
    let mut usage = Usage::none(&fleet);
    let answers = planner.place_all(&mut usage, &requests(&fleet));
    answers
        .iter()
        .map(|answer| answer.stamp().unwrap().clone())
        .collect()
}

#[test]
fn placed_anew_only_the_new_stamps_share_moves() {
    let old = [("s-1", 100_000), ("s-2", 200_000), ("s-3", 300_000)];
    let before = spread(&old);
    let mut larger = old.to_vec();
    larger.push(("s-4", 200_000));
    let after = spread(&larger);
    let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
    assert!(moved.iter().all(|(_, to)| to.as_str() == "s-4"));
    // A quarter of the new capacity; five standard deviations of 2,000 draws at 1/4 are 97.
    assert!(moved.len().abs_diff(500) < 97, "{} moved", moved.len());
}

#[test]
fn a_device_goes_where_its_tenant_is_or_nowhere() {
    let fleet = Fleet::new(
        "image".into(),
        vec![stamp("s-1", 10), stamp("s-2", 1_000)],
        vec![tenant("t", 1)],
    );
    let planner = Planner::new(&fleet);
    let mut usage = Usage::none(&fleet);
    let home = StampId::parse("s-1").unwrap();
    let device = DeviceId::parse("press-1".into()).unwrap();
    let request = Request::device(fleet.tenants()[0].id.clone(), device, Some(home.clone()));
    let answer = planner.place(&usage, &request);
    assert!(matches!(
        answer.outcome,
        Outcome::Placed { why: Why::Home, .. }
    ));
    assert_eq!(answer.stamp(), Some(&home));

    usage.set(&fleet, &home, Load::ZERO.with(Axis::Devices, 10));
    let answer = planner.place(&usage, &request);
    let full = Objection::Full {
        axis: Axis::Devices,
        used: 10,
        needs: 1,
        hard: 10,
    };
    let refusal = Refusal::Home {
        stamp: home.clone(),
        objections: vec![full],
    };
    assert_eq!(answer.outcome, Outcome::Refused(refusal));

    let there = Request {
        current: Some(home.clone()),
        ..request
    };
    assert_eq!(
        planner.place(&usage, &there).stamp(),
        Some(&home),
        "it has its place already"
    );
}

#[test]
fn a_device_of_a_test_stamp_is_placed_in_production_when_that_is_asked_for() {
    let mut test = stamp("s-test", 1_000);
    test.environment = Environment::Test;
    test.ring = Ring::Canary;
    let fleet = Fleet::new(
        "image".into(),
        vec![test, stamp("s-1", 1_000)],
        vec![tenant("t", 1)],
    );
    let device = DeviceId::parse("press-1".into()).unwrap();
    let mut request = Request::device(fleet.tenants()[0].id.clone(), device, None);
    request.environment = Some(Environment::Test);
    let usage = Usage::none(&fleet);
    let first = Planner::new(&fleet).place(&usage, &request);
    assert_eq!(first.stamp().unwrap().as_str(), "s-test", "of any ring");
    request.current = first.stamp().cloned();
    request.environment = Some(Environment::Production);
    let moved = Planner::new(&fleet).place(&usage, &request);
    assert_eq!(moved.stamp().unwrap().as_str(), "s-1");
}

#[test]
fn a_stamp_over_its_soft_limit_is_taken_last_and_said_to_be() {
    let fleet = Fleet::new(
        "image".into(),
        vec![stamp("s-1", 100), stamp("s-2", 100)],
        vec![tenant("t", 1)],
    );
    let planner = Planner::new(&fleet);
    let mut usage = Usage::none(&fleet);
    for (name, used) in [("s-1", 80), ("s-2", 90)] {
        usage.set(
            &fleet,
            &StampId::parse(name).unwrap(),
            Load::ZERO.with(Axis::Devices, used),
        );
    }
    let answer = planner.explain(&usage, &Request::tenant(&fleet.tenants()[0]));
    let Outcome::Placed {
        stamp,
        over_soft,
        fill,
        ..
    } = &answer.outcome
    else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (stamp.as_str(), over_soft.as_slice()),
        ("s-1", &[Axis::Devices][..])
    );
    assert!((fill - 0.81).abs() < 1e-9);
    assert_eq!(answer.rejected.len(), 1);
    assert_eq!(
        answer.rejected[0].objections,
        [],
        "it fits, and ranks second"
    );
}

#[test]
fn a_suspended_tenant_keeps_its_stamp_and_gets_nothing_new() {
    let mut suspended = tenant("t", 1);
    suspended.state = TenantState::Suspended;
    let fleet = Fleet::new("image".into(), vec![stamp("s-1", 100)], vec![suspended]);
    let planner = Planner::new(&fleet);
    let usage = Usage::none(&fleet);
    let mut request = Request::tenant(&fleet.tenants()[0]);
    let refused = Outcome::Refused(Refusal::TenantState(TenantState::Suspended));
    assert_eq!(planner.place(&usage, &request).outcome, refused);
    request.current = Some(StampId::parse("s-1").unwrap());
    assert_eq!(
        planner.place(&usage, &request).stamp(),
        request.current.as_ref()
    );
}

#[test]
fn a_stamp_that_is_emptied_keeps_what_it_has_and_takes_no_tenant() {
    let mut draining = stamp("s-1", 100);
    draining.state = StampState::Draining;
    let fleet = Fleet::new("image".into(), vec![draining], vec![tenant("t", 1)]);
    let planner = Planner::new(&fleet);
    let usage = Usage::none(&fleet);
    let home = StampId::parse("s-1").unwrap();
    let request = Request::tenant(&fleet.tenants()[0]);
    assert_eq!(planner.place(&usage, &request).stamp(), None);
    let stays = Request {
        current: Some(home.clone()),
        ..request
    };
    assert_eq!(planner.place(&usage, &stays).stamp(), Some(&home));
    let device = DeviceId::parse("d".into()).unwrap();
    let device = Request::device(fleet.tenants()[0].id.clone(), device, Some(home.clone()));
    assert_eq!(
        planner.place(&usage, &device).stamp(),
        Some(&home),
        "until the tenant is moved"
    );
}
