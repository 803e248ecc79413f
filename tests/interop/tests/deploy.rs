//! What is in `deploy/kubernetes` and `deploy/azure`, by the tools and schemas of others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stamp_interop::{kustomize, read_terraform, validate_manifests};

/// docs/performance.md, "Memory": what a process takes at most beside its buffer, for each encoder, and how much
/// buffer pays for one.
const BESIDE_MIB: u64 = 80;
const AN_ENCODER_MIB: u64 = 56;
const BUFFER_PER_ENCODER_MIB: u64 = 32;
/// docs/configuration-keys.md: `drain-max` where it is not given; `http.drain-max` of a provisioner and of a mover.
const DRAIN_S: u64 = 25;
const PROVISIONER_DRAIN_S: u64 = 10;
/// The same: `resilience.iot-hub.attempt-timeout`, the longest act of a mover that no stop cuts short.
const ATTEMPT_S: u64 = 30;
/// The same: `http.connections-max` and `http.body-max` of a mover.
const ORDERS_MIB: u64 = 64 * 8;
/// For what comes before and after the draining: the signal, the last answers, the end of the process.
const GRACE_BESIDE_S: u64 = 5;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// The stamps that have an overlay.
fn stamps() -> Vec<String> {
    let entries = fs::read_dir(deploy().join("kubernetes/overlays")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert!(names.len() >= 2, "{names:?}");
    names
}

/// What is applied for a folder of `deploy/kubernetes`: it is as it was looked at, and valid.
#[track_caller]
fn applied(folder: &str) -> Vec<Value> {
    let kubernetes = deploy().join("kubernetes");
    let rendered = kustomize(&kubernetes.join(folder)).unwrap();
    let name = folder.rsplit('/').next().unwrap();
    let kept = kubernetes.join(format!("rendered/{name}.yaml"));
    let looked_at = fs::read_to_string(&kept).unwrap_or_default();
    assert!(
        rendered == looked_at,
        "{name} changed: look at `kubectl kustomize deploy/kubernetes/{folder}` and keep it in {}",
        kept.display()
    );
    let (objects, errors) = validate_manifests(&kept);
    assert_eq!(errors, Vec::<String>::new(), "{name}");
    objects
}

#[track_caller]
fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects
        .iter()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let first = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two {kind} {name}");
    first
}

/// A file of the one config map that holds it.
#[track_caller]
fn file(objects: &[Value], name: &str) -> toml::Table {
    let maps = objects
        .iter()
        .filter(|object| object["kind"] == "ConfigMap");
    let text = maps.filter_map(|map| map["data"][name].as_str()).next();
    text.unwrap().parse().unwrap()
}

/// A quantity that is written in bytes, or in Mi.
fn mib(quantity: &Value) -> u64 {
    match quantity.as_str() {
        Some(text) => text.strip_suffix("Mi").unwrap().parse().unwrap(),
        None => quantity.as_u64().unwrap() >> 20,
    }
}

/// What every pod of ours keeps to, whatever else is said of it.
#[track_caller]
fn assert_restricted(namespace: &Value, pod: &Value) {
    let labels = &namespace["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        let memory = |what: &str| mib(&container["resources"][what]["memory"]);
        assert_eq!(
            memory("limits"),
            memory("requests"),
            "never evicted for memory"
        );
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert!(container[probe]["httpGet"]["path"].is_string(), "{probe}");
        }
    }
}

/// Everything is refused that is not allowed by name, and other stamps' pods never are.
#[track_caller]
fn assert_apart(objects: &[Value]) {
    let refused = &one(objects, "NetworkPolicy", "default-deny")["spec"];
    assert_eq!(refused["podSelector"], serde_json::json!({}));
    assert_eq!(
        refused["policyTypes"],
        serde_json::json!(["Ingress", "Egress"])
    );
    assert!(refused.get("ingress").is_none() && refused.get("egress").is_none());
    let allowed = BTreeSet::from(["monitoring", "kube-system"]);
    for policy in objects
        .iter()
        .filter(|object| object["kind"] == "NetworkPolicy")
    {
        let ways = ["ingress", "egress"].map(|way| policy["spec"][way].as_array());
        for rule in ways.into_iter().flatten().flatten() {
            let peers = ["from", "to"].map(|peer| rule[peer].as_array());
            for peer in peers.into_iter().flatten().flatten() {
                let name = &peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
                let named = name.as_str().is_some_and(|name| allowed.contains(name));
                assert!(named || peer["ipBlock"]["cidr"].is_string(), "{peer}");
            }
            assert!(!rule["ports"].as_array().unwrap().is_empty(), "{rule}");
        }
    }
}

#[test]
fn every_stamp_is_valid_by_the_schemas_of_kubernetes_and_keda_and_as_it_was_looked_at() {
    for stamp in stamps() {
        let objects = applied(&format!("overlays/{stamp}"));
        let namespace = one(&objects, "Namespace", &stamp);
        for object in &objects {
            if object["kind"] != "Namespace" {
                assert_eq!(object["metadata"]["namespace"], stamp.as_str(), "{object}");
            }
        }
        let pod = &one(&objects, "Deployment", "stampworks")["spec"]["template"];
        assert_eq!(
            pod["metadata"]["labels"]["stampworks/stamp"],
            stamp.as_str()
        );
        assert_restricted(namespace, &pod["spec"]);
        assert_apart(&objects);

        // Whoever KEDA counts for is the deployment, and nobody else says how many there are.
        let deployment = &one(&objects, "Deployment", "stampworks")["spec"];
        assert!(deployment.get("replicas").is_none());
        let scaled = &one(&objects, "ScaledObject", "stampworks")["spec"];
        assert_eq!(scaled["scaleTargetRef"]["name"], "stampworks");
        let trigger = &scaled["triggers"][0];
        assert_eq!(trigger["metadata"]["checkpointStrategy"], "blobMetadata");
        let identity = &one(&objects, "ServiceAccount", "stampworks")["metadata"]["annotations"];
        assert_eq!(
            one(&objects, "TriggerAuthentication", "stampworks")["spec"]["podIdentity"]["identityId"],
            identity["azure.workload.identity/client-id"]
        );
        let config = file(&objects, "stamp.toml");
        let hub = &config["hub"];
        assert_eq!(
            trigger["metadata"]["eventHubName"],
            hub["hub"].as_str().unwrap()
        );
        assert_eq!(
            trigger["metadata"]["consumerGroup"],
            hub["consumer-group"].as_str().unwrap()
        );
        let url = format!(
            "az://{}/{}",
            trigger["metadata"]["storageAccountName"].as_str().unwrap(),
            trigger["metadata"]["blobContainer"].as_str().unwrap()
        );
        assert_eq!(config["store"]["url"].as_str(), Some(url.as_str()));
    }
}

#[test]
fn the_memory_of_a_pod_holds_what_its_configuration_lets_it_take_and_its_grace_the_draining() {
    for stamp in stamps() {
        let objects = applied(&format!("overlays/{stamp}"));
        let pod = &one(&objects, "Deployment", "stampworks")["spec"]["template"]["spec"];
        let limit = mib(&pod["containers"][0]["resources"]["limits"]["memory"]);
        let config = file(&objects, "stamp.toml");
        let buffer = config["consumer"]["buffer-max"].as_str().unwrap();
        let buffer: u64 = buffer.strip_suffix("MiB").unwrap().parse().unwrap();

        let encoders = (buffer / BUFFER_PER_ENCODER_MIB).max(1);
        let most = buffer + BESIDE_MIB + encoders * AN_ENCODER_MIB;

        assert!(most <= limit, "{stamp}: {most} of {limit} MiB");
        assert!(buffer >= limit / 4, "{stamp}: memory that nothing may use");
        assert!(config["consumer"].get("drain-max").is_none(), "{stamp}");
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace >= DRAIN_S + GRACE_BESIDE_S, "{stamp}: {grace} s");
    }
}

#[test]
fn the_provisioner_is_valid_and_reads_the_example_fleet() {
    let objects = applied("provisioner");
    let set = &one(&objects, "StatefulSet", "provisioner")["spec"];
    let pod = &set["template"]["spec"];
    assert_restricted(one(&objects, "Namespace", "provisioner"), pod);
    assert_apart(&objects);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace >= PROVISIONER_DRAIN_S + GRACE_BESIDE_S);
    let config = file(&objects, "provision.toml");
    let replicas = config["reserve"]["replicas"].as_integer();
    assert_eq!(
        replicas,
        set["replicas"].as_i64(),
        "the reserve is divided by them"
    );

    assert_example_fleet("provisioner");
    let mut example = example("provision.toml");
    example.insert("fleet".into(), "/etc/stampworks/fleet".into());
    assert_eq!(config, example, "but for where the catalogue is");
}

fn example(name: &str) -> toml::Table {
    let text = fs::read_to_string(deploy().join("examples").join(name)).unwrap();
    text.parse().unwrap()
}

/// The catalogue in a folder of `deploy/kubernetes` is the example one.
#[track_caller]
fn assert_example_fleet(folder: &str) {
    let folder = deploy().join("kubernetes").join(folder);
    for name in ["stamps.toml", "tenants.toml"] {
        let example = fs::read_to_string(deploy().join("examples/fleet").join(name)).unwrap();
        let there = fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(there, example, "{name}");
    }
}

#[test]
fn the_service_of_moves_is_valid_one_at_a_time_and_keeps_its_journals() {
    let objects = applied("mover");
    let deployment = &one(&objects, "Deployment", "mover")["spec"];
    assert_eq!(deployment["replicas"], 1, "the folder has one owner");
    assert_eq!(
        deployment["strategy"],
        serde_json::json!({"type": "Recreate"}),
        "never two, not even during an update"
    );
    let template = &deployment["template"];
    let pod = &template["spec"];
    assert_restricted(one(&objects, "Namespace", "mover"), pod);
    assert_apart(&objects);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace >= PROVISIONER_DRAIN_S.max(ATTEMPT_S) + GRACE_BESIDE_S);
    let limit = mib(&pod["containers"][0]["resources"]["limits"]["memory"]);
    assert!(limit >= 2 * ORDERS_MIB, "{limit} MiB");

    // Everything in Azure is reached as the service account's own identity.
    assert_eq!(
        template["metadata"]["labels"]["azure.workload.identity/use"],
        "true"
    );
    let account = &one(&objects, "ServiceAccount", "mover")["metadata"]["annotations"];
    let client = account["azure.workload.identity/client-id"].as_str();
    assert!(client.is_some_and(|id| !id.is_empty()));
    let services = file(&objects, "services.toml");
    let stamps = services["stamps"].as_table().unwrap();
    let hubs = stamps.values().map(|stamp| &stamp["iot-hub"]);
    for service in hubs.chain([&services["dps"]]) {
        assert_eq!(service["workload-identity"].as_bool(), Some(true));
    }

    // The folder of the moves is on a volume that outlives the pod and that no second pod gets.
    let config = file(&objects, "mover.toml");
    let state = Path::new(config["state"].as_str().unwrap());
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .find(|mount| state.starts_with(mount["mountPath"].as_str().unwrap()))
        .unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes
        .iter()
        .find(|volume| volume["name"] == mount["name"]);
    let claim = volume.unwrap()["persistentVolumeClaim"]["claimName"].as_str();
    let claim = one(&objects, "PersistentVolumeClaim", claim.unwrap());
    assert_eq!(
        claim["spec"]["accessModes"],
        serde_json::json!(["ReadWriteOncePod"])
    );

    // Every file that the configuration names is below something that is mounted.
    let named = ["fleet", "services"].map(|key| &config[key]);
    let files = [
        &config["tls"]["certificate"],
        &config["tls"]["key"],
        &config["tls"]["client-ca"],
        &config["access"]["keys-file"],
        &config["reservations"]["password-file"],
    ];
    for path in named.into_iter().chain(files) {
        let path = Path::new(path.as_str().unwrap());
        let is_mounted = |mount: &Value| path.starts_with(mount["mountPath"].as_str().unwrap());
        assert!(mounts.iter().any(is_mounted), "{}", path.display());
    }
    for (port, key) in [
        ("orders", &config["listen"]),
        ("metrics", &config["telemetry"]["listen"]),
    ] {
        let ports = pod["containers"][0]["ports"].as_array().unwrap();
        let port = ports.iter().find(|one| one["name"] == port).unwrap();
        let listened = key.as_str().unwrap().rsplit(':').next().unwrap();
        assert_eq!(port["containerPort"].to_string(), listened);
    }

    assert_example_fleet("mover");
    assert_eq!(services, example("services.toml"));
    let mut example = example("mover.toml");
    example.insert("fleet".into(), "/etc/stampworks/fleet".into());
    let services = "/etc/stampworks/services/services.toml";
    example.insert("services".into(), services.into());
    assert_eq!(config, example, "but for where the files are");
}

#[test]
fn a_mistake_in_a_manifest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mistakes.yaml");
    let good = fs::read_to_string(deploy().join("kubernetes/rendered/weu-1.yaml")).unwrap();
    let bad = good
        .replace("terminationGracePeriodSeconds", "terminationGraceSeconds")
        .replace("maxUnavailable: 1\n", "maxUnavailable: [1]\n")
        .replace("pollingInterval: 30", "pollingInterval: often")
        .replace("authenticationRef", "authentication");
    fs::write(&path, bad).unwrap();

    let (_, errors) = validate_manifests(&path);

    for words in [
        ["Deployment/stampworks", "terminationGraceSeconds"],
        ["PodDisruptionBudget/stampworks", "maxUnavailable"],
        ["ScaledObject/stampworks", "pollingInterval"],
        ["ScaledObject/stampworks", "authentication is no field"],
    ] {
        let told = |error: &String| words.iter().all(|word| error.contains(word));
        assert!(errors.iter().any(told), "{words:?} in {errors:#?}");
    }
}

#[test]
fn the_azure_resources_have_the_arguments_of_their_provider_and_are_those_of_the_catalogue() {
    let (_, errors) = read_terraform(&deploy().join("azure/stamp"));
    assert_eq!(errors, Vec::<String>::new());
    let (locals, errors) = read_terraform(&deploy().join("azure/fleet"));
    assert_eq!(errors, Vec::<String>::new());

    let catalogue = fs::read_to_string(deploy().join("examples/fleet/stamps.toml")).unwrap();
    let catalogue: toml::Table = catalogue.parse().unwrap();
    let listed = catalogue["stamps"].as_array().unwrap();
    let stamps = locals["stamps"].as_object().unwrap();
    assert_eq!(stamps.len(), 2);
    for (id, made) in stamps {
        let stamp = listed.iter().find(|stamp| stamp["id"].as_str() == Some(id));
        let stamp = stamp.unwrap();
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        for key in ["region", "ring", "environment"] {
            assert_eq!(made[key], text(&stamp[key]), "{id}: {key}");
        }
        let (hub, iot) = (&stamp["event-hub"], &stamp["iot-hub"]);
        let first = |name: &toml::Value| text(name).split('.').next().unwrap().to_owned();
        assert_eq!(made["iot_hub"]["name"], first(&iot["name"]));
        assert_eq!(made["iot_hub"]["tier"], text(&iot["tier"]));
        assert_eq!(made["iot_hub"]["units"].as_i64(), iot["units"].as_integer());
        assert_eq!(made["event_hub"]["namespace"], first(&hub["namespace"]));
        assert_eq!(made["event_hub"]["name"], text(&hub["hub"]));
        assert_eq!(
            made["event_hub"]["consumer_group"],
            text(&hub["consumer-group"])
        );
        let tier = made["event_hub"]["tier"].as_str().unwrap().to_lowercase();
        assert_eq!(tier, text(&hub["tier"]));
        for (key, listed) in [("units", "throughput-units"), ("partitions", "partitions")] {
            assert_eq!(
                made["event_hub"][key].as_i64(),
                hub[listed].as_integer(),
                "{id}: {key}"
            );
        }
        let storage = &made["storage"];
        let url = format!(
            "az://{}/{}",
            storage["account"].as_str().unwrap(),
            storage["container"].as_str().unwrap()
        );
        assert_eq!(url, text(&stamp["storage-root"]));
        // The tenants that the overlay reads for have a container.
        let overlay = deploy().join(format!("kubernetes/overlays/{id}/stamp.toml"));
        let config: toml::Table = fs::read_to_string(overlay).unwrap().parse().unwrap();
        let tenants = config["tenants"].as_array().unwrap();
        let tenants: BTreeSet<String> = tenants.iter().map(|tenant| text(&tenant["id"])).collect();
        let containers: BTreeSet<String> = made["tenants"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(containers, tenants);
    }
}

#[test]
fn a_mistake_in_the_azure_resources_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
        variable "region" {}
        resource "azurerm_resource_group" "group" {
          name     = "group"
          locatoin = var.regoin
        }
        resource "azurerm_iothub" "hub" {
          name                = "hub"
          resource_group_name = azurerm_resource_group.grop.name
          location            = var.region
          sku { name = "S1" }
        }
    "#;
    fs::write(folder.path().join("main.tf"), text).unwrap();

    let (_, errors) = read_terraform(folder.path());

    for told in [
        "azurerm_resource_group.group: azurerm has no argument locatoin",
        "azurerm_resource_group.group: location is missing",
        "azurerm_iothub.hub.sku: capacity is missing",
        "var.regoin is used and is nowhere",
        "azurerm_resource_group.grop is used and is nowhere",
    ] {
        assert!(
            errors.iter().any(|error| error == told),
            "{told} in {errors:#?}"
        );
    }
}
