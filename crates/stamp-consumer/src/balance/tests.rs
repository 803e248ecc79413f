use super::*;
use proptest::prelude::*;

const EXPIRE_AFTER: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_secs(10);

fn partition(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

fn ownership(number: u32, owner: &str, version: u64) -> Ownership {
    Ownership {
        partition: partition(number),
        owner_id: owner.to_owned(),
        version: version.to_string(),
        last_modified_ms: None,
    }
}

/// The blobs and the replicas that balance by them.
struct Group {
    partitions: Vec<PartitionId>,
    blobs: BTreeMap<PartitionId, Ownership>,
    written: u64,
    expired: BTreeSet<PartitionId>,
    draw: u64,
}

impl Group {
    fn new(partitions: u32, seed: u64) -> Self {
        Self {
            partitions: (0..partitions).map(partition).collect(),
            blobs: BTreeMap::new(),
            written: 0,
            expired: BTreeSet::new(),
            draw: seed,
        }
    }

    fn listed(&self) -> Vec<Ownership> {
        self.blobs.values().cloned().collect()
    }

    fn held(listed: &[Ownership], me: &str) -> BTreeSet<PartitionId> {
        let mine = listed.iter().filter(|ownership| ownership.owner_id == me);
        mine.map(|ownership| ownership.partition).collect()
    }

    /// What `me` decides on `listed`, checked against the rules that hold for every decision.
    fn decide(&mut self, listed: &[Ownership], me: &str) -> Vec<PartitionId> {
        self.draw = self.draw.wrapping_add(1);
        let held = Self::held(listed, me);
        let view = View {
            partitions: &self.partitions,
            listed,
            expired: &self.expired,
            held: &held,
            barred: &BTreeSet::new(),
            me,
        };
        let claims = view.claims(self.draw);
        let others = view.others();
        let share = self.partitions.len().div_ceil(others.len() + 1);
        assert!(claims.is_empty() || held.len() + claims.len() <= share);
        let stolen: Vec<&Vec<PartitionId>> = others
            .values()
            .filter(|theirs| claims.iter().any(|claim| theirs.contains(claim)))
            .collect();
        assert!(stolen.is_empty() || claims.len() == 1, "a storm of claims");
        assert!(stolen.iter().all(|theirs| theirs.len() >= held.len() + 2));
        claims
    }

    /// Compare and set.
    fn claim(&mut self, claim: PartitionId, me: &str, listed: &[Ownership]) {
        let seen = listed.iter().find(|o| o.partition == claim);
        if self.blobs.get(&claim) == seen {
            self.written += 1;
            let claimed = ownership(claim.number(), me, self.written);
            self.blobs.insert(claim, claimed);
            self.expired.remove(&claim);
        }
    }

    /// A round of every replica, one after the other or all by the same list. How many claims were
    /// made.
    fn round(&mut self, replicas: &[String], in_phase: bool) -> usize {
        let mut claims = 0;
        let same = self.listed();
        for me in replicas {
            let listed = if in_phase {
                same.clone()
            } else {
                self.listed()
            };
            for claim in self.decide(&listed, me) {
                claims += 1;
                self.claim(claim, me, &listed);
            }
        }
        claims
    }

    fn settle(&mut self, replicas: &[String], in_phase: bool) {
        for _ in 0..400 {
            if self.round(replicas, in_phase) == 0 {
                return;
            }
        }
        panic!("no balance after 400 rounds: {:?}", self.blobs);
    }

    fn assert_balanced(&self, replicas: &[String]) {
        let counts: Vec<usize> = replicas
            .iter()
            .map(|me| Self::held(&self.listed(), me).len())
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), self.partitions.len());
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }
}

fn replicas(names: std::ops::Range<usize>) -> Vec<String> {
    names.map(|number| format!("replica-{number}")).collect()
}

proptest! {
    #[test]
    fn every_owner_ends_within_one_of_the_others_and_then_nothing_moves(
        partitions in 1_u32..40, count in 1_usize..9, seed: u64, in_phase: bool,
    ) {
        let mut group = Group::new(partitions, seed);
        let replicas = replicas(0..count);
        group.settle(&replicas, in_phase);
        group.assert_balanced(&replicas);
        let before = group.listed();
        prop_assert_eq!(group.round(&replicas, in_phase), 0);
        prop_assert_eq!(group.listed(), before);
    }

    #[test]
    fn any_distribution_is_balanced_one_partition_at_a_time(
        owners in proptest::collection::vec(0_usize..6, 1..40), seed: u64, in_phase: bool,
    ) {
        let mut group = Group::new(u32::try_from(owners.len()).unwrap(), seed);
        for (number, owner) in owners.iter().enumerate() {
            group.claim(
                partition(u32::try_from(number).unwrap()),
                &format!("replica-{owner}"),
                &[],
            );
        }
        let replicas = replicas(0..6);
        prop_assert!(group.round(&replicas, in_phase) <= replicas.len());
        group.settle(&replicas, in_phase);
        group.assert_balanced(&replicas);
    }

    #[test]
    fn what_the_dead_had_is_taken_by_the_living(
        partitions in 1_u32..40, count in 2_usize..9, seed: u64,
    ) {
        let mut group = Group::new(partitions, seed);
        let all = replicas(0..count);
        group.settle(&all, false);
        let living = replicas(0..count - 1);
        let dead = Group::held(&group.listed(), &format!("replica-{}", count - 1));
        // As long as its blobs do not count as expired, they are its own.
        prop_assert_eq!(group.round(&living, false), 0);

        group.expired = dead;

        // All of it in one round: nobody waits for a balance that is a partition at a time.
        group.round(&living, false);
        prop_assert!(group.expired.is_empty());
        group.settle(&living, false);
        group.assert_balanced(&living);
    }
}

#[test]
fn an_unchanged_version_expires_and_a_renewed_one_does_not() {
    let mut watch = Watch::new(ROUND, EXPIRE_AFTER);
    let start = Instant::now();
    for round in 0..=6_u32 {
        let listed = [
            ownership(0, "dead", 1),
            ownership(1, "living", round.into()),
        ];
        let expired = watch.look(&listed, start + ROUND * round);
        let expected: &[PartitionId] = if round == 6 { &[partition(0)] } else { &[] };
        assert!(expired.iter().eq(expected), "round {round}: {expired:?}");
    }
}

#[test]
fn after_an_outage_of_the_store_nobody_counts_as_gone() {
    let mut watch = Watch::new(ROUND, EXPIRE_AFTER);
    let listed = [ownership(0, "other", 1)];
    let start = Instant::now();
    watch.look(&listed, start);
    let back = start + Duration::from_secs(300);
    // 15 s of the outage count, and 40 s after it: nobody was away for a minute.
    for round in 0..=4 {
        assert!(watch.look(&listed, back + ROUND * round).is_empty());
    }
    assert_eq!(watch.look(&listed, back + ROUND * 5).len(), 1);
}

#[test]
fn what_is_barred_is_not_claimed_and_a_name_left_over_is_free() {
    let listed = [ownership(0, "me", 1), ownership(1, "me", 2)];
    let view = View {
        partitions: &[partition(0), partition(1), partition(2)],
        listed: &listed,
        expired: &BTreeSet::new(),
        held: &BTreeSet::from([partition(0)]),
        barred: &BTreeSet::from([partition(2)]),
        me: "me",
    };
    assert_eq!(view.claims(7), [partition(1)]);
}

#[test]
fn two_replicas_do_not_keep_their_rounds_together() {
    let gaps: BTreeSet<Duration> = (0..50).map(|draw| until_next_round(ROUND, draw)).collect();
    assert!(gaps.len() > 40, "{gaps:?}");
    assert!(gaps.iter().all(|gap| (ROUND * 4 / 5..=ROUND).contains(gap)));
}
