use super::*;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

const BLOB: &str = "n/h/g/checkpoint/4";

fn partition() -> PartitionId {
    PartitionId::new(4).unwrap()
}

fn group(store: &Arc<dyn ObjectStore>, keep: Keep) -> Checkpoints {
    Checkpoints::new(Arc::clone(store), Path::from("n/h/g"), keep)
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

async fn put_metadata(store: &Arc<dyn ObjectStore>, metadata: &[(&'static str, &str)]) {
    let attributes = metadata.iter().map(|(key, value)| {
        let value = AttributeValue::from((*value).to_owned());
        (Attribute::Metadata((*key).into()), value)
    });
    let options = PutOptions {
        attributes: Attributes::from_iter(attributes),
        ..PutOptions::default()
    };
    let path = Path::from(BLOB);
    store
        .put_opts(&path, PutPayload::new(), options)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_blob_is_as_the_azure_sdks_write_it() {
    let store = memory();
    let to = Checkpoint {
        sequence: 78,
        offset: "4294968792".into(),
        hub_created_at_ms: None,
    };

    group(&store, Keep::Metadata)
        .advance(partition(), &to)
        .await
        .unwrap();

    let blob = store.get(&Path::from(BLOB)).await.unwrap();
    let mut metadata: Vec<_> = blob
        .attributes
        .iter()
        .map(|(key, value)| format!("{key:?}={}", value.as_ref()))
        .collect();
    metadata.sort();
    assert_eq!(
        metadata,
        [
            "Metadata(\"offset\")=4294968792",
            "Metadata(\"sequencenumber\")=78"
        ]
    );
    assert!(blob.bytes().await.unwrap().is_empty());
}

/// Fault scenario 54.
#[tokio::test]
async fn what_another_sdk_wrote_is_read() {
    let store = memory();
    put_metadata(&store, &[("SequenceNumber", "12"), ("Offset", "900")]).await;
    let found = group(&store, Keep::Metadata)
        .read(partition())
        .await
        .unwrap();
    let expected = Checkpoint {
        sequence: 12,
        offset: "900".into(),
        hub_created_at_ms: None,
    };
    assert_eq!(found, Some(expected));
}

/// Fault scenario 42.
#[tokio::test]
async fn a_corrupt_blob_is_named_kept_and_never_overwritten() {
    for (metadata, shown) in [
        (vec![("sequencenumber", "12x"), ("offset", "9")], "12x"),
        (vec![("sequencenumber", "")], ""),
        (vec![("sequencenumber", "-7")], "-7"),
        (
            vec![("sequencenumber", "99999999999999999999")],
            "99999999999999999999",
        ),
        (vec![("offset", "9")], "no sequencenumber"),
        (vec![], "no sequencenumber"),
        (
            vec![("sequencenumber", "12"), ("hubcreatedatms", "yesterday")],
            "yesterday",
        ),
        (vec![("sequencenumber", "12"), ("hubcreatedatms", "")], ""),
    ] {
        let store = memory();
        put_metadata(&store, &metadata).await;
        let group = group(&store, Keep::Metadata);
        let to = Checkpoint {
            sequence: 100,
            offset: "1".into(),
            hub_created_at_ms: None,
        };

        for error in [
            group.read(partition()).await.unwrap_err(),
            group.advance(partition(), &to).await.unwrap_err(),
        ] {
            let LakeError::CorruptCheckpoint { blob, value } = error else {
                panic!("{metadata:?} gave {error:?}");
            };
            assert_eq!((blob.as_str(), value.as_str()), (BLOB, shown));
        }

        let aside = group.set_aside(partition()).await.unwrap();
        assert_eq!(aside, "n/h/g/corrupt/4");
        let kept = store.get(&Path::from(aside)).await.unwrap();
        assert_eq!(kept.attributes.iter().count(), metadata.len());
        let moved = group.advance(partition(), &to).await.unwrap();
        assert_eq!(moved, Advanced::Moved);
    }
}

/// Fault scenario 42.
#[tokio::test]
async fn a_corrupt_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> =
        Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let group = group(&store, Keep::Body);
    let long = "9".repeat(5_000);
    for (body, shown) in [
        ("", ""),
        ("12", "12"),
        ("{\"sequencenumber\":\"x\",\"offset\":\"1\"}", "\"x\""),
        ("{\"sequencenumber\":5}", "{\"sequencenumber\":5}"),
        (
            "{\"sequencenumber\":5,\"offset\":\"1\",\"hubcreatedatms\":\"1\"}",
            "\"hubcreatedatms\":\"1\"",
        ),
        (long.as_str(), "more than 4096 bytes"),
    ] {
        let path = Path::from(BLOB);
        store.put(&path, body.to_owned().into()).await.unwrap();
        let error = group.read(partition()).await.unwrap_err();
        let LakeError::CorruptCheckpoint { value, .. } = &error else {
            panic!("{body:?} gave {error:?}");
        };
        assert!(value.contains(shown), "{value:?}");
    }
}

#[tokio::test]
async fn an_offset_that_no_header_can_hold_is_refused() {
    let to = Checkpoint {
        sequence: 1,
        offset: "a\r\nb".into(),
        hub_created_at_ms: None,
    };
    let error = group(&memory(), Keep::Metadata)
        .advance(partition(), &to)
        .await
        .unwrap_err();
    assert!(matches!(error, LakeError::Refused { .. }), "{error:?}");
}
