//! The files of the base, and of one stamp's overlay on it: a function of the catalogue.

use stamp_placement::{Axis, Fleet, Placing, Quota, Stamp, Tenant, TenantState};

use super::super::usage::UsageFile;

/// A file of the base with its text.
macro_rules! base_file {
    ($name:literal) => {
        (
            concat!("base/", $name),
            include_str!(concat!("../../../../../deploy/kubernetes/base/", $name)),
        )
    };
}

/// Whether a stamp's service reads for a tenant: it is named, or it is there.
pub(super) fn is_on(fleet: &Fleet, tenant: &Tenant, stamp: &Stamp, usage: &UsageFile) -> bool {
    if tenant.state == TenantState::Offboarded {
        return false;
    }
    match &tenant.placing {
        Placing::Stamps(stamps) => stamps.contains(&stamp.id),
        Placing::Rule { .. } => usage.is_on(fleet, &tenant.id, stamp),
    }
}

/// What every overlay builds on, by its path below the folder: the files of `deploy/kubernetes/base`.
pub(super) const BASE: [(&str, &str); 7] = [
    base_file!("kustomization.yaml"),
    base_file!("service-account.yaml"),
    base_file!("deployment.yaml"),
    base_file!("service.yaml"),
    base_file!("pod-disruption-budget.yaml"),
    base_file!("network-policy.yaml"),
    base_file!("scaled-object.yaml"),
];

/// Seconds of a stamp's most events that a process may be behind before KEDA adds one. The checkpoint is
/// behind by up to `flush-age` (60 s) when all is well, so it has to be more.
const BEHIND_S: u64 = 120;
/// Below it, a few late flushes would already look like a backlog.
const THRESHOLD_MIN: u64 = 1_000;

/// Where a stamp's tables are: account and container; `None` of a local folder, which no pod keeps.
pub(super) fn container(stamp: &Stamp) -> Option<(&str, &str)> {
    let (account, path) = stamp.storage_root.strip_prefix("az://")?.split_once('/')?;
    Some((account, path.split('/').next().unwrap_or(path)))
}

/// Name and text of every file of a stamp whose tables are in this container. Tenants come with the text of
/// their schema.
pub(super) fn files(
    image: &str,
    stamp: &Stamp,
    (account, container): (&str, &str),
    tenants: &[(&Tenant, String)],
) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = [
        ("kustomization.yaml", kustomization(image, stamp, tenants)),
        ("stamp.toml", config(stamp, account, tenants)),
        ("namespace.yaml", namespace(stamp)),
        ("deployment.yaml", deployment(stamp)),
        (
            "scaled-object.yaml",
            scaled_object(stamp, account, container),
        ),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into();
    if let Some(identity) = &stamp.service.identity {
        let who = [
            ("service-account.yaml", service_account(identity)),
            (
                "trigger-authentication.yaml",
                trigger_authentication(identity),
            ),
        ];
        files.extend(who.map(|(name, text)| (name.to_owned(), text)));
    }
    for (tenant, schema) in tenants {
        files.push((format!("{}.schema.toml", tenant.id), schema.clone()));
    }
    files
}

fn kustomization(image: &str, stamp: &Stamp, tenants: &[(&Tenant, String)]) -> String {
    let identity = match &stamp.service.identity {
        Some(_) => "- path: service-account.yaml\n- path: trigger-authentication.yaml\n",
        None => "",
    };
    let mut text = format!(
        "# Written by `stampworks fleet render`; change the catalogue instead.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         namespace: {id}\n\
         labels:\n\
         - includeTemplates: true\n\
         \x20 pairs:\n\
         \x20   app.kubernetes.io/name: stampworks\n\
         \x20   stampworks/stamp: {id}\n\
         \x20   stampworks/ring: {ring}\n\
         \x20   stampworks/environment: {environment}\n\
         \x20   stampworks/geography: {geography}\n\
         resources:\n\
         - ../../base\n\
         - namespace.yaml\n\
         patches:\n\
         - path: deployment.yaml\n\
         {identity}\
         - path: scaled-object.yaml\n\
         \x20 target: {{ group: keda.sh, kind: ScaledObject, name: stampworks }}\n\
         images:\n\
         - name: stampworks\n\
         \x20 newName: {image}\n\
         \x20 newTag: {version:?}\n\
         configMapGenerator:\n\
         - name: stampworks\n\
         \x20 files:\n\
         \x20 - stamp.toml\n",
        id = stamp.id,
        ring = stamp.ring,
        environment = stamp.environment,
        geography = stamp.geography,
        version = stamp.version,
    );
    for (tenant, _) in tenants {
        text += &format!("  - {}.schema.toml\n", tenant.id);
    }
    text
}

/// Kubernetes itself refuses pods that ask for more than they need.
fn namespace(stamp: &Stamp) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n\
         \x20 name: {}\n\
         \x20 labels:\n\
         \x20   pod-security.kubernetes.io/enforce: restricted\n",
        stamp.id
    )
}

/// Who the service is.
fn service_account(identity: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: ServiceAccount\n\
         metadata:\n\
         \x20 name: stampworks\n\
         \x20 annotations:\n\
         \x20   azure.workload.identity/client-id: {identity:?}\n"
    )
}

/// Who KEDA is when it looks at the stamp's lag.
fn trigger_authentication(identity: &str) -> String {
    format!(
        "apiVersion: keda.sh/v1alpha1\n\
         kind: TriggerAuthentication\n\
         metadata:\n\
         \x20 name: stampworks\n\
         spec:\n\
         \x20 podIdentity:\n\
         \x20   identityId: {identity:?}\n"
    )
}

/// No limit of processor time: a process that catches up may use what is free.
fn deployment(stamp: &Stamp) -> String {
    let service = &stamp.service;
    format!(
        "apiVersion: apps/v1\n\
         kind: Deployment\n\
         metadata:\n\
         \x20 name: stampworks\n\
         spec:\n\
         \x20 template:\n\
         \x20   spec:\n\
         \x20     containers:\n\
         \x20     - name: stampworks\n\
         \x20       resources:\n\
         \x20         requests: {{ cpu: {cpu}m, memory: {memory} }}\n\
         \x20         limits: {{ memory: {memory} }}\n",
        cpu = service.cpu_millicores,
        memory = service.memory_bytes,
    )
}

/// Events a process may be behind: its share of what the stamp takes at most, for [`BEHIND_S`].
fn threshold(stamp: &Stamp) -> u64 {
    let most = stamp.capacity[Axis::EventsPerSecond].hard;
    let share = most.saturating_mul(BEHIND_S) / stamp.service.replicas_max.max(1);
    share.max(THRESHOLD_MIN)
}

fn scaled_object(stamp: &Stamp, account: &str, container: &str) -> String {
    let hub = &stamp.event_hub;
    let mut text = format!(
        "- {{ op: add, path: /spec/minReplicaCount, value: {} }}\n\
         - {{ op: add, path: /spec/maxReplicaCount, value: {} }}\n",
        stamp.service.replicas_min, stamp.service.replicas_max
    );
    let namespace = hub.namespace.split('.').next().unwrap_or(&hub.namespace);
    for (key, value) in [
        ("eventHubNamespace", namespace),
        ("eventHubName", &hub.hub),
        ("consumerGroup", &hub.consumer_group),
        ("storageAccountName", account),
        ("blobContainer", container),
        ("unprocessedEventThreshold", &threshold(stamp).to_string()),
    ] {
        text +=
            &format!("- {{ op: add, path: /spec/triggers/0/metadata/{key}, value: {value:?} }}\n");
    }
    text
}

/// What `stampworks consume` reads.
fn config(stamp: &Stamp, account: &str, tenants: &[(&Tenant, String)]) -> String {
    let hub = &stamp.event_hub;
    let mut text = format!(
        "# Written by `stampworks fleet render`; change the catalogue instead.\n\
         stamp = \"{id}\"\n\n\
         [hub]\n\
         endpoint = \"amqps://{namespace}\"\n\
         connection-string-env = \"EVENT_HUB_CONNECTION_STRING\"\n\
         hub = \"{hub}\"\n\
         consumer-group = \"{group}\"\n\n\
         [store]\n\
         url = \"{root}\"\n\
         workload-identity = true\n\n\
         [consumer]\n\
         buffer-max = \"{buffer}MiB\"\n\n\
         [consumer.ownership]\n\n\
         [telemetry]\n\
         listen = \"0.0.0.0:9464\"\n",
        id = stamp.id,
        namespace = hub.namespace,
        hub = hub.hub,
        group = hub.consumer_group,
        root = stamp.storage_root,
        buffer = buffer_mib(stamp.service.memory_bytes),
    );
    for (tenant, _) in tenants {
        // No device id has a quote or a backslash in it.
        let devices: Vec<String> = tenant
            .devices
            .iter()
            .map(|id| format!("\"{id}\""))
            .collect();
        text += &format!(
            "\n[[tenants]]\nid = \"{id}\"\nschema = \"{id}.schema.toml\"\ndevices = [{}]\n",
            devices.join(", "),
            id = tenant.id
        );
        text += &quota(&tenant.quota);
        if stamp.tenant_containers {
            text += &format!(
                "store = {{ url = \"az://{account}/{}\", workload-identity = true }}\n",
                tenant.id
            );
        }
    }
    text
}

/// A quarter: encoding, commits and the process itself need the rest (docs/performance.md).
fn buffer_mib(memory_bytes: u64) -> u64 {
    (memory_bytes >> 20) / 4
}

fn quota(quota: &Quota) -> String {
    let parts: Vec<String> = [
        ("events-per-second", quota.events_per_second),
        ("bytes-per-second", quota.bytes_per_second),
        ("devices-max", quota.devices_max),
    ]
    .into_iter()
    .filter_map(|(key, value)| value.map(|value| format!("{key} = {value}")))
    .collect();
    match parts.as_slice() {
        [] => String::new(),
        parts => format!("quota = {{ {} }}\n", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::buffer_mib;

    /// docs/performance.md, "Memory": what a process takes at most beside its buffer, in MiB.
    const BESIDE: u64 = 80;
    const AN_ENCODER: u64 = 56;
    const BUFFER_PER_ENCODER: u64 = 32;

    #[test]
    fn a_pod_of_any_size_holds_what_its_buffer_lets_it_take_on_a_node_with_any_number_of_cores() {
        for memory_mib in 256..=(64 << 10) {
            let buffer = buffer_mib(memory_mib << 20);
            let encoders = (buffer / BUFFER_PER_ENCODER).max(1);

            let most = buffer + BESIDE + encoders * AN_ENCODER;

            assert!(most <= memory_mib, "{most} of {memory_mib} MiB");
        }
    }
}
