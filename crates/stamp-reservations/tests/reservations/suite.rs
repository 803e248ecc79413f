//! What bookings promise on every database. `doors` are two processes on the same one.

use std::collections::BTreeMap;

use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Axis, Environment, Load};
use stamp_reservations::{Booked, Booking, Claim, Moved, Reservations, ReservationsError, Subject};
use stamp_resilience::{Classify, FailureKind};

/// Every promise, each with stamps of its own.
pub(crate) async fn all(doors: &[Reservations; 2]) {
    a_subject_is_booked_once_and_stays_where_it_is(doors).await;
    a_full_stamp_says_on_which_axis_and_takes_nothing(doors).await;
    claims_at_the_same_time_never_book_more_than_there_is(doors).await;
    claims_of_one_subject_at_the_same_time_end_in_one_booking(doors).await;
    a_move_takes_both_stamps_until_it_ends_or_is_undone(doors).await;
    a_change_of_another_version_does_nothing(doors).await;
    a_booking_that_becomes_another_tenants_stays_where_it_is(doors).await;
    a_list_comes_in_pages(doors).await;
    tenants_are_told_apart_from_devices(doors).await;
    devices_of_a_tenant_are_found_on_a_stamp_and_on_all(doors).await;
    amounts_that_fit_no_column_fit_no_stamp(doors).await;
    a_call_that_is_dropped_leaves_the_door_usable(doors).await;
    what_is_used_is_the_sum_of_the_bookings(doors).await;
}

pub(crate) fn passes(error: &ReservationsError) -> bool {
    matches!(error.kind(), FailureKind::Transient)
}

pub(crate) fn stamp(name: &str) -> StampId {
    StampId::parse(name).unwrap()
}

pub(crate) fn device(name: &str) -> Subject {
    Subject::Device(DeviceId::parse(name.into()).unwrap())
}

fn one_device() -> Load {
    devices(1)
}

pub(crate) fn devices(count: u64) -> Load {
    Load::ZERO.with(Axis::Devices, count)
}

pub(crate) fn claim(subject: Subject, at: &str, devices_max: u64) -> Claim {
    Claim {
        subject,
        tenant: TenantId::parse("contoso").unwrap(),
        stamp: stamp(at),
        needs: one_device(),
        limits: Load::ZERO.with(Axis::Devices, devices_max),
    }
}

pub(crate) async fn used(door: &Reservations, at: &str) -> Load {
    let usage = door.usage().await.unwrap();
    let of = |(id, load): (StampId, Load)| (id == stamp(at)).then_some(load);
    usage.into_iter().find_map(of).unwrap_or_default()
}

pub(crate) async fn must_book(door: &Reservations, claim: &Claim) -> Booking {
    match door.book(claim, 5).await.unwrap() {
        Booked::New(booking) => booking,
        other => panic!("{other:?}"),
    }
}

/// For tests that restart the database.
pub(crate) async fn book_three(door: &Reservations) {
    for name in ["d-1", "d-2", "d-3"] {
        must_book(door, &claim(device(name), "kept", 10)).await;
    }
}

pub(crate) async fn assert_three(door: &Reservations) {
    assert_eq!(door.list(&stamp("kept"), "", 10).await.unwrap().len(), 3);
    assert_eq!(
        used(door, "kept").await,
        one_device().with(Axis::Devices, 3)
    );
}

async fn a_subject_is_booked_once_and_stays_where_it_is([a, b]: &[Reservations; 2]) {
    let tenant = TenantId::parse("contoso").unwrap();
    let subject = Subject::Tenant(tenant.clone(), Environment::Test);
    let first = must_book(a, &claim(subject.clone(), "once-1", 10)).await;
    assert_eq!(
        first,
        Booking {
            subject: "tenant:contoso/test".into(),
            tenant,
            stamp: stamp("once-1"),
            leaving: None,
            needs: one_device(),
            version: 1,
            changed_us: 5,
        }
    );

    for (door, at) in [(a, "once-1"), (b, "once-2")] {
        let again = door.book(&claim(subject.clone(), at, 10), 9).await.unwrap();
        assert_eq!(again, Booked::Already(first.clone()));
    }
    assert_eq!(used(b, "once-1").await, one_device());
    assert_eq!(used(b, "once-2").await, Load::ZERO);
    assert_eq!(b.get(&subject).await.unwrap(), Some(first));
}

async fn a_full_stamp_says_on_which_axis_and_takes_nothing([a, b]: &[Reservations; 2]) {
    let mut wish = claim(device("full-1"), "full", 10);
    wish.needs[Axis::BytesPerSecond] = 700;
    wish.limits[Axis::BytesPerSecond] = 1_000;
    must_book(a, &wish).await;
    wish.subject = device("full-2");

    let full = b.book(&wish, 6).await.unwrap();
    let axis = Axis::BytesPerSecond;
    assert_eq!(full, Booked::Full { axis, used: 700 });
    assert_eq!(b.get(&wish.subject).await.unwrap(), None);
    // An axis that is not asked for does not matter, however full it is.
    wish.needs[Axis::BytesPerSecond] = 0;
    wish.limits[Axis::BytesPerSecond] = 0;
    must_book(b, &wish).await;
    let both = Load::ZERO
        .with(Axis::Devices, 2)
        .with(Axis::BytesPerSecond, 700);
    assert_eq!(used(a, "full").await, both);
}

pub(crate) async fn claims_at_the_same_time_never_book_more_than_there_is(
    doors: &[Reservations; 2],
) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let door = doors[number % 2].clone();
        tasks.spawn(async move {
            let wish = claim(device(&format!("many-{number}")), "many", 25);
            loop {
                match door.book(&wish, 5).await {
                    Ok(booked) => return matches!(booked, Booked::New(_)),
                    // Nothing was done: the lock was taken for too long.
                    Err(error) if passes(&error) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
    let booked = tasks
        .join_all()
        .await
        .into_iter()
        .filter(|&new| new)
        .count();
    assert_eq!(booked, 25);
    assert_eq!(used(&doors[0], "many").await[Axis::Devices], 25);
    let list = doors[1].list(&stamp("many"), "", 100).await.unwrap();
    assert_eq!(list.len(), 25);
}

pub(crate) async fn claims_of_one_subject_at_the_same_time_end_in_one_booking(
    doors: &[Reservations; 2],
) {
    for round in 0..10 {
        let subject = device(&format!("same-{round}"));
        let wishes = ["same-a", "same-b"].map(|at| claim(subject.clone(), at, 100));
        let (a, b) = tokio::join!(doors[0].book(&wishes[0], 1), doors[1].book(&wishes[1], 2));
        let answers = [a.unwrap(), b.unwrap()];
        let new = answers
            .iter()
            .filter(|a| matches!(a, Booked::New(_)))
            .count();
        let where_it_is = answers.map(|answer| match answer {
            Booked::New(booking) | Booked::Already(booking) => booking.stamp,
            full @ Booked::Full { .. } => panic!("{full:?}"),
        });
        assert_eq!(
            (new, &where_it_is[0]),
            (1, &where_it_is[1]),
            "round {round}"
        );
    }
    let sum = used(&doors[0], "same-a")
        .await
        .plus(used(&doors[0], "same-b").await);
    assert_eq!(sum[Axis::Devices], 10);
}

async fn a_move_takes_both_stamps_until_it_ends_or_is_undone([a, b]: &[Reservations; 2]) {
    let limits = Load::ZERO.with(Axis::Devices, 1);
    for (round, forward) in [(0, true), (1, false)] {
        let (from, to) = (format!("from-{round}"), format!("to-{round}"));
        let subject = device(&format!("moved-{round}"));
        let booked = must_book(a, &claim(subject.clone(), &from, 1)).await;

        let begun = b
            .begin_move(&subject, booked.version, &stamp(&to), limits, 7)
            .await;
        let Moved::Done(begun) = begun.unwrap() else {
            panic!("not begun")
        };
        assert_eq!((begun.stamp.as_str(), begun.version), (to.as_str(), 2));
        assert_eq!(begun.leaving, Some(stamp(&from)));
        assert_eq!(
            used(a, &from).await.plus(used(a, &to).await)[Axis::Devices],
            2
        );
        let twice = a
            .begin_move(&subject, 2, &stamp("elsewhere"), limits, 7)
            .await;
        assert_eq!(twice.unwrap(), Moved::Stale(begun), "a move within a move");

        let ended = if forward {
            a.end_move(&subject, 2, 8).await
        } else {
            a.undo_move(&subject, 2, 8).await
        };
        let Moved::Done(ended) = ended.unwrap() else {
            panic!("not ended")
        };
        let (at, free) = if forward { (&to, &from) } else { (&from, &to) };
        assert_eq!(
            (ended.stamp.as_str(), ended.leaving.as_ref()),
            (at.as_str(), None)
        );
        assert_eq!(used(b, at).await[Axis::Devices], 1);
        assert_eq!(used(b, free).await[Axis::Devices], 0);
    }
    let none = Load::ZERO;
    let full = a
        .begin_move(&device("moved-0"), 3, &stamp("tiny"), none, 9)
        .await
        .unwrap();
    let axis = Axis::Devices;
    assert_eq!(full, Moved::Full { axis, used: 0 });
    assert_eq!(a.get(&device("moved-0")).await.unwrap().unwrap().version, 3);
}

async fn a_change_of_another_version_does_nothing([a, b]: &[Reservations; 2]) {
    let subject = device("stale");
    let booked = must_book(a, &claim(subject.clone(), "stale", 5)).await;
    let limits = Load::ZERO.with(Axis::Devices, 5);

    for version in [0, 2] {
        let stale = Moved::Stale(booked.clone());
        let begun = b
            .begin_move(&subject, version, &stamp("other"), limits, 1)
            .await;
        assert_eq!(begun.unwrap(), stale);
        assert_eq!(b.end_move(&subject, version, 1).await.unwrap(), stale);
        assert_eq!(b.release(&subject, version).await.unwrap(), stale);
    }
    let not_moving = Moved::Stale(booked.clone());
    assert_eq!(b.undo_move(&subject, 1, 1).await.unwrap(), not_moving);
    let nobody = device("nobody");
    assert_eq!(b.end_move(&nobody, 1, 1).await.unwrap(), Moved::Absent);
    assert_eq!(b.release(&nobody, 1).await.unwrap(), Moved::Absent);
    assert_eq!(b.release(&subject, 1).await.unwrap(), Moved::Done(booked));
    assert_eq!(used(a, "stale").await, Load::ZERO);
}

async fn a_booking_that_becomes_another_tenants_stays_where_it_is([a, b]: &[Reservations; 2]) {
    let (subject, fabrikam) = (device("given-1"), TenantId::parse("fabrikam").unwrap());
    let first = must_book(a, &claim(subject.clone(), "given", 1)).await;
    let given = b.give_to(&subject, 1, &fabrikam, 9).await.unwrap();
    let now = Booking {
        tenant: fabrikam.clone(),
        version: 2,
        changed_us: 9,
        ..first
    };
    assert_eq!(given, Moved::Done(now.clone()));
    assert_eq!(used(a, "given").await, one_device());
    let late = a.give_to(&subject, 1, &fabrikam, 9).await.unwrap();
    assert_eq!(late, Moved::Stale(now));
    let nobody = a
        .give_to(&device("given-2"), 1, &fabrikam, 9)
        .await
        .unwrap();
    assert_eq!(nobody, Moved::Absent);
}

async fn a_list_comes_in_pages([a, b]: &[Reservations; 2]) {
    for number in 0..7 {
        must_book(a, &claim(device(&format!("page-{number}")), "pages", 10)).await;
    }
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map_or("", String::as_str);
        let page = b.list(&stamp("pages"), after, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|booking| booking.subject));
    }
    let expected: Vec<String> = (0..7)
        .map(|number| format!("device:page-{number}"))
        .collect();
    assert_eq!(found, expected);
}

async fn tenants_are_told_apart_from_devices([a, b]: &[Reservations; 2]) {
    let of = |name: &str| Subject::Tenant(TenantId::parse(name).unwrap(), Environment::Test);
    for name in ["zeta-9", "alpha", "beta-1"] {
        must_book(a, &claim(of(name), "homes", 10)).await;
    }
    must_book(a, &claim(device("tenant:none"), "homes", 10)).await;
    let subjects = |page: Vec<Booking>| page.into_iter().map(|b| b.subject).collect::<Vec<_>>();
    let first = subjects(b.tenants("", 2).await.unwrap());
    assert_eq!(first, ["tenant:alpha/test", "tenant:beta-1/test"]);
    let rest = subjects(b.tenants(&first[1], 10).await.unwrap());
    assert_eq!(rest, ["tenant:contoso/test", "tenant:zeta-9/test"]);
}

async fn devices_of_a_tenant_are_found_on_a_stamp_and_on_all([a, b]: &[Reservations; 2]) {
    let (tenant, other) = (
        TenantId::parse("finder").unwrap(),
        TenantId::parse("other").unwrap(),
    );
    for (name, at, whose) in [
        ("find-1", "find-a", &tenant),
        ("find-2", "find-b", &tenant),
        ("find-3", "find-a", &tenant),
        ("find-4", "find-a", &other),
    ] {
        let claim = Claim {
            tenant: whose.clone(),
            ..claim(device(name), at, 10)
        };
        must_book(a, &claim).await;
    }
    let home = Claim {
        tenant: tenant.clone(),
        ..claim(
            Subject::Tenant(tenant.clone(), Environment::Test),
            "find-a",
            10,
        )
    };
    must_book(a, &home).await;
    let limits = devices(10);
    let moved = a
        .begin_move(&device("find-3"), 1, &stamp("find-b"), limits, 6)
        .await;
    assert!(matches!(moved, Ok(Moved::Done(_))), "{moved:?}");

    let found = async |stamp: Option<&StampId>, after: &str, limit| {
        let found = b.devices(&tenant, stamp, after, limit).await.unwrap();
        found.into_iter().map(|b| b.subject).collect::<Vec<_>>()
    };
    let all = ["device:find-1", "device:find-2", "device:find-3"];
    assert_eq!(found(None, "", 10).await, all);
    assert_eq!(found(None, all[0], 1).await, [all[1]]);
    assert_eq!(
        found(Some(&stamp("find-a")), "", 10).await,
        [all[0], all[2]]
    );
    for (at, count) in [("find-a", 2), ("find-b", 2), ("find-c", 0)] {
        assert_eq!(b.count_devices(&tenant, &stamp(at)).await.unwrap(), count);
    }
}

async fn amounts_that_fit_no_column_fit_no_stamp([a, _]: &[Reservations; 2]) {
    let mut wish = claim(device("huge"), "huge", u64::MAX);
    for huge in [u64::MAX, u64::MAX / 2, 1 << 62] {
        wish.needs = devices(huge);
        let axis = Axis::Devices;
        assert_eq!(
            a.book(&wish, 1).await.unwrap(),
            Booked::Full { axis, used: 0 },
            "{huge}"
        );
    }
    wish.needs = devices(1 << 60);
    must_book(a, &wish).await;
}

async fn a_call_that_is_dropped_leaves_the_door_usable([a, _]: &[Reservations; 2]) {
    for number in 0..20 {
        let wish = claim(device(&format!("dropped-{number}")), "dropped", 100);
        let mut call = Box::pin(a.book(&wish, 1));
        // A few steps, then nobody waits for it any more.
        for _ in 0..number {
            let step = std::future::poll_fn(|context| {
                std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
            });
            if step.await {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        match a.book(&wish, 2).await.unwrap() {
            Booked::New(_) | Booked::Already(_) => {}
            full @ Booked::Full { .. } => panic!("{full:?}"),
        }
    }
    assert_eq!(used(a, "dropped").await[Axis::Devices], 20);
}

/// Three hundred calls in an order that a fixed rule makes up, against sums of our own.
async fn what_is_used_is_the_sum_of_the_bookings(doors: &[Reservations; 2]) {
    let stamps = ["sum-0", "sum-1", "sum-2"];
    let limits = Load::ZERO.with(Axis::Devices, 4);
    let mut moving = 0;
    let mut state: u64 = 0x2545_f491_4f6c_dd1d;
    for step in 0..300 {
        // xorshift64: the same calls in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let door = &doors[usize::from(state & 1 == 0)];
        let subject = device(&format!("sum-{}", (state >> 8) % 12));
        let to = stamps[usize::try_from((state >> 16) % 3).unwrap()];
        let now = door.get(&subject).await.unwrap();
        match (now, (state >> 24) % 5) {
            (None, _) => drop(door.book(&claim(subject, to, 4), step).await.unwrap()),
            (Some(booking), action) => {
                let version = booking.version;
                let done = match action {
                    0 | 1 => {
                        door.begin_move(&subject, version, &stamp(to), limits, step)
                            .await
                    }
                    2 => door.end_move(&subject, version, step).await,
                    3 => door.undo_move(&subject, version, step).await,
                    _ => door.release(&subject, version).await,
                };
                let moved = done.unwrap();
                moving += u32::from(matches!(moved, Moved::Done(now) if now.leaving.is_some()));
            }
        }
    }
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for name in stamps {
        let there = doors[0].list(&stamp(name), "", 100).await.unwrap();
        expected.insert(name.to_owned(), u64::try_from(there.len()).unwrap());
    }
    assert!(moving > 10, "{moving} calls met an open move");
    for name in stamps {
        let booked = expected.get(name).copied().unwrap_or_default();
        assert_eq!(used(&doors[1], name).await[Axis::Devices], booked, "{name}");
        assert!(booked <= 4, "{name} has {booked}");
    }
}
