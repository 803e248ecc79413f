//! `positions`: checkpoint and ownership blobs, whoever wrote them.

use std::sync::{Arc, LazyLock};

use object_store::memory::InMemory;
use object_store::path::{Path, PathPart};
use object_store::{Attribute, AttributeValue, Attributes, ObjectStore, PutOptions, PutPayload};
use stamp_lake::{Advanced, Checkpoint, Claim, Lake, LakeError};
use stamp_model::{PartitionId, START};
use tokio::runtime::Runtime;
use url::Url;

use crate::input::Input;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O needs nothing from the system")
});

/// Roots of which the first keeps checkpoints in metadata and the second in bodies.
static ROOTS: LazyLock<[Url; 2]> = LazyLock::new(|| {
    ["memory:///root/", "file:///root/"].map(|root| root.parse().expect("a valid address"))
});

const NAMES: [&str; 3] = ["n.example", "h", "$default"];

/// One try: what is read (a checkpoint's metadata or body, an ownership, or what was written
/// before), then its parts separated by 0x1e.
///
/// # Panics
/// When a promise is broken.
pub fn positions(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte() % 5;
    let texts: Vec<String> = input
        .pieces(8)
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect();
    let text = |i: usize| texts.get(i).map(String::as_str);
    RUNTIME.block_on(async {
        match mode {
            0 => check_metadata(text(0), text(1), text(2)).await,
            1 => check_body(input.0).await,
            2 => check_ownership(text(0).unwrap_or(""), text(1)).await,
            3 => check_round_trip(input).await,
            _ => check_names([text(0), text(1), text(2)].map(|name| name.unwrap_or("x"))).await,
        }
    });
}

fn partition() -> PartitionId {
    PartitionId::new(4).expect("4 is a partition")
}

fn lake(root: usize) -> (Arc<dyn ObjectStore>, Lake) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = Lake::from_store(Arc::clone(&store), ROOTS[root].clone());
    (store, lake)
}

/// Puts a blob below the group's folder.
async fn put(store: &dyn ObjectStore, place: [&str; 2], metadata: &[(&str, &str)], body: &[u8]) {
    let parts = ["root"].into_iter().chain(NAMES).chain(place);
    let path: Path = parts.map(PathPart::from).collect();
    let attributes = metadata.iter().map(|&(key, value)| {
        let key = Attribute::Metadata(key.to_owned().into());
        (key, AttributeValue::from(value.to_owned()))
    });
    let options = PutOptions {
        attributes: Attributes::from_iter(attributes),
        ..PutOptions::default()
    };
    let payload = PutPayload::from(body.to_vec());
    let put = store.put_opts(&path, payload, options).await;
    put.expect("a store in memory takes everything");
}

/// A missing part is told by an empty text after a mark, so that "absent" can be fuzzed too.
fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| *text != "-absent")
}

async fn check_metadata(sequence: Option<&str>, offset: Option<&str>, created: Option<&str>) {
    let parts = [
        ("sequencenumber", present(sequence)),
        ("Offset", present(offset)),
        ("HubCreatedAtMs", present(created)),
    ];
    let metadata: Vec<(&str, &str)> = parts
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    let expected = expected(
        present(sequence).and_then(|text| text.parse().ok()),
        present(offset).unwrap_or(""),
        present(created).map(|text| text.parse().ok()),
    );
    let (store, lake) = lake(0);
    put(&*store, ["checkpoint", "4"], &metadata, b"").await;
    check_read(&lake, expected).await;
}

async fn check_body(body: &[u8]) {
    let expected = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| {
            let created = value.get("hubcreatedatms").filter(|value| !value.is_null());
            expected(
                value.get("sequencenumber")?.as_i64(),
                value.get("offset")?.as_str()?,
                created.map(serde_json::Value::as_i64),
            )
        })
        .filter(|_| body.len() <= 4_096);
    let (store, lake) = lake(1);
    put(&*store, ["checkpoint", "4"], &[], body).await;
    check_read(&lake, expected).await;
}

/// What the parts mean; `None` when one of them means nothing.
fn expected(
    sequence: Option<i64>,
    offset: &str,
    created: Option<Option<i64>>,
) -> Option<Checkpoint> {
    let hub_created_at_ms = match created {
        None => None,
        Some(created) => Some(created?),
    };
    Some(Checkpoint {
        sequence: sequence.filter(|sequence| *sequence >= START)?,
        offset: offset.to_owned(),
        hub_created_at_ms,
    })
}

/// A blob says exactly what it says, or it is corrupt and stays as it is.
async fn check_read(lake: &Lake, expected: Option<Checkpoint>) {
    let [namespace, hub, group] = NAMES;
    let checkpoints = lake.checkpoints(namespace, hub, group);
    let to = Checkpoint {
        sequence: i64::MAX,
        offset: "9".into(),
        hub_created_at_ms: None,
    };
    match (checkpoints.read(partition()).await, expected) {
        (Ok(found), Some(expected)) => assert_eq!(found, Some(expected)),
        (Err(LakeError::CorruptCheckpoint { .. }), None) => {
            let advanced = checkpoints.advance(partition(), &to).await;
            assert!(
                matches!(advanced, Err(LakeError::CorruptCheckpoint { .. })),
                "a corrupt checkpoint was written over: {advanced:?}"
            );
            let aside = checkpoints.set_aside(partition()).await;
            assert!(aside.is_ok(), "{aside:?}");
            assert_eq!(checkpoints.read(partition()).await.ok(), Some(None));
            let advanced = checkpoints.advance(partition(), &to).await;
            assert_eq!(advanced.ok(), Some(Advanced::Moved));
        }
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

async fn check_ownership(name: &str, owner: Option<&str>) {
    let (store, lake) = lake(0);
    let metadata: Vec<_> = owner.iter().map(|owner| ("OwnerId", *owner)).collect();
    if !name.is_empty() {
        put(&*store, ["ownership", name], &metadata, b"any").await;
    }
    let [namespace, hub, group] = NAMES;
    let ownerships = lake
        .ownerships(namespace, hub, group)
        .expect("a store in memory has compare-and-set");
    let found = ownerships.list().await.expect("a store in memory answers");
    let expected = PartitionId::parse(name).ok();
    assert_eq!(found.first().map(|found| found.partition), expected);
    let Some(found) = found.into_iter().next() else {
        return;
    };
    assert_eq!(found.owner_id, owner.unwrap_or(""));
    let claim = ownerships.claim(found.partition, "me", Some(&found)).await;
    let Ok(Claim::Won(held)) = claim else {
        panic!("an unchanged ownership was not won: {claim:?}");
    };
    let late = ownerships
        .claim(found.partition, "other", Some(&found))
        .await;
    assert_eq!(late.ok(), Some(Claim::Lost));
    let listed = ownerships.list().await.expect("a store in memory answers");
    assert_eq!(listed[0].owner_id, held.owner_id);
    assert_eq!(ownerships.release(&held).await.ok(), Some(true));
    let as_given = ownerships
        .claim(found.partition, owner.unwrap_or(""), None)
        .await;
    assert!(
        !matches!(as_given, Ok(Claim::Won(_))),
        "created over a blob that is there"
    );
}

/// What is written is read again, in both forms.
async fn check_round_trip(mut input: Input<'_>) {
    let mut number = || {
        let bytes = input.take(8).first_chunk::<8>().copied();
        bytes.map_or(0, i64::from_be_bytes)
    };
    let (sequence, created) = (number(), number());
    let to = Checkpoint {
        sequence: sequence.max(START),
        offset: String::from_utf8_lossy(input.0).into_owned(),
        hub_created_at_ms: (created % 2 == 0).then_some(created),
    };
    let printable = to.offset.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    for root in 0..ROOTS.len() {
        let (_, lake) = lake(root);
        let [namespace, hub, group] = NAMES;
        let checkpoints = lake.checkpoints(namespace, hub, group);
        let read = || checkpoints.read(partition());
        match checkpoints.advance(partition(), &to).await {
            Ok(Advanced::Moved) if printable => match read().await {
                Ok(found) => assert_eq!(found, Some(to.clone())),
                // The local form has a limit; a position above it is refused, never cut.
                Err(error) => assert!(to.offset.len() > 3_000, "{error:?}"),
            },
            Err(LakeError::Refused { .. }) if !printable => {
                assert_eq!(read().await.ok(), Some(None));
            }
            other => panic!("{to:?} gave {other:?}"),
        }
    }
}

/// A group's blobs lie below the root, and no other group reads them.
async fn check_names(names: [&str; 3]) {
    if names.iter().any(|name| name.is_empty()) {
        return;
    }
    let (store, lake) = lake(0);
    let to = Checkpoint {
        sequence: 7,
        offset: String::new(),
        hub_created_at_ms: None,
    };
    let [namespace, hub, group] = names;
    let mine = lake.checkpoints(namespace, hub, group);
    assert_eq!(
        mine.advance(partition(), &to).await.ok(),
        Some(Advanced::Moved)
    );
    let listed = store.list_with_delimiter(Some(&Path::from("root"))).await;
    let below = listed.expect("a store in memory answers").common_prefixes;
    assert_eq!(below.len(), 1, "{below:?} for {names:?}");
    let segment = below[0].parts().next_back();
    assert_eq!(
        segment,
        Some(PathPart::from(namespace.to_lowercase().as_str()))
    );
    for other in [
        [hub, namespace, group],
        [namespace, group, hub],
        [namespace, hub, "x"],
        [namespace, "x", group],
    ] {
        let same = other.map(str::to_lowercase) == names.map(str::to_lowercase);
        let [namespace, hub, group] = other;
        let found = lake
            .checkpoints(namespace, hub, group)
            .read(partition())
            .await;
        assert_eq!(
            found.ok().flatten().is_some(),
            same,
            "{other:?} reads {names:?}"
        );
    }
}
