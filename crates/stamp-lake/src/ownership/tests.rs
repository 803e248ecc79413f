use super::*;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

fn partition() -> PartitionId {
    PartitionId::new(4).unwrap()
}

fn ownerships(store: &Arc<dyn ObjectStore>) -> Ownerships {
    Ownerships::new(Arc::clone(store), Path::from("n/h/g/ownership"))
}

async fn put(store: &Arc<dyn ObjectStore>, path: &str, metadata: &[(&'static str, &str)]) {
    let attributes = metadata.iter().map(|(key, value)| {
        let value = AttributeValue::from((*value).to_owned());
        (Attribute::Metadata((*key).into()), value)
    });
    let options = PutOptions {
        attributes: Attributes::from_iter(attributes),
        ..PutOptions::default()
    };
    let path = Path::from(path);
    store
        .put_opts(&path, "any body".into(), options)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_blob_is_as_the_azure_sdks_write_it() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let group = ownerships(&store);

    let claim = group.claim(partition(), "replica-1", None).await.unwrap();

    let Claim::Won(held) = claim else {
        panic!("nobody else was there");
    };
    let blob = store.get(&Path::from("n/h/g/ownership/4")).await.unwrap();
    let metadata: Vec<_> = blob
        .attributes
        .iter()
        .map(|(key, value)| format!("{key:?}={}", value.as_ref()))
        .collect();
    assert_eq!(metadata, ["Metadata(\"ownerid\")=replica-1"]);
    assert_eq!(blob.meta.e_tag.as_deref(), Some(held.version.as_str()));
    assert!(blob.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_others_left_there_is_read_or_passed_over() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    put(&store, "n/h/g/ownership/0", &[("OwnerId", "theirs")]).await;
    put(&store, "n/h/g/ownership/1", &[("ownerid", "")]).await;
    put(&store, "n/h/g/ownership/2", &[("other", "x")]).await;
    for foreign in ["x", "03", "-1", "99999999999", "5/6", "+7"] {
        put(&store, &format!("n/h/g/ownership/{foreign}"), &[]).await;
    }

    let found = ownerships(&store).list().await.unwrap();

    let owners: Vec<_> = found
        .iter()
        .map(|found| (found.partition.number(), found.owner_id.as_str()))
        .collect();
    assert_eq!(owners, [(0, "theirs"), (1, ""), (2, "")]);
    // None of them keeps anybody from claiming.
    for found in &found {
        let claim = ownerships(&store)
            .claim(found.partition, "me", Some(found))
            .await;
        assert!(matches!(claim.unwrap(), Claim::Won(_)));
    }
}

#[tokio::test]
async fn an_owner_that_no_header_can_hold_is_refused() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for owner in ["a\r\nb", "größe", &"x".repeat(257)] {
        let error = ownerships(&store)
            .claim(partition(), owner, None)
            .await
            .unwrap_err();
        assert!(matches!(error, LakeError::Refused { .. }), "{error:?}");
    }
    assert_eq!(ownerships(&store).list().await.unwrap(), []);
}
