//! The files of one stamp's overlay: a function of the catalogue.

use stamp_placement::{Fleet, Placing, Quota, Stamp, Tenant, TenantState};

use super::super::usage::UsageFile;

/// Whether a stamp's service reads for a tenant: it is named, or it is there.
pub(super) fn is_on(fleet: &Fleet, tenant: &Tenant, stamp: &Stamp, usage: &UsageFile) -> bool {
    if tenant.state == TenantState::Offboarded {
        return false;
    }
    match &tenant.placing {
        Placing::Stamps(stamps) => stamps.contains(&stamp.id),
        Placing::Rule { .. } => {
            usage.home(fleet, &tenant.id, stamp.environment).as_ref() == Some(&stamp.id)
        }
    }
}

/// Name and text of every file. Tenants come with the text of their schema.
pub(super) fn files(
    image: &str,
    stamp: &Stamp,
    tenants: &[(&Tenant, String)],
) -> Vec<(String, String)> {
    let mut resources = vec![
        ("namespace.yaml", namespace(stamp)),
        ("service-account.yaml", service_account(stamp)),
        ("deployment.yaml", deployment(image, stamp)),
        ("service.yaml", service()),
    ];
    if let Some(scaling) = scaled_object(stamp) {
        resources.push(("scaled-object.yaml", scaling));
    }
    let names: Vec<&str> = resources.iter().map(|(name, _)| *name).collect();
    let mut files = vec![
        (
            "kustomization.yaml".to_owned(),
            kustomization(image, stamp, &names, tenants),
        ),
        ("stamp.toml".to_owned(), config(stamp, tenants)),
    ];
    files.extend(
        resources
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text)),
    );
    for (tenant, schema) in tenants {
        files.push((format!("{}.schema.toml", tenant.id), schema.clone()));
    }
    files
}

fn kustomization(
    image: &str,
    stamp: &Stamp,
    resources: &[&str],
    tenants: &[(&Tenant, String)],
) -> String {
    let mut text = format!(
        "# Written by `stampworks fleet render`; change the catalogue instead.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         namespace: {namespace}\n\
         labels:\n\
         - pairs:\n\
         \x20   app.kubernetes.io/name: stampworks\n\
         \x20   stampworks/stamp: {id}\n\
         \x20   stampworks/ring: {ring}\n\
         \x20   stampworks/environment: {environment}\n\
         resources:\n\
         {resources}\
         images:\n\
         - name: {image}\n\
         \x20 newTag: {version:?}\n\
         configMapGenerator:\n\
         - name: stampworks\n\
         \x20 files:\n\
         \x20 - stamp.toml\n",
        namespace = stamp.id,
        id = stamp.id,
        resources = resources
            .iter()
            .map(|name| format!("- {name}\n"))
            .collect::<String>(),
        ring = stamp.ring,
        environment = stamp.environment,
        version = stamp.version,
    );
    for (tenant, _) in tenants {
        text += &format!("  - {}.schema.toml\n", tenant.id);
    }
    text
}

fn namespace(stamp: &Stamp) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n",
        stamp.id
    )
}

fn service_account(stamp: &Stamp) -> String {
    let mut text =
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: stampworks\n".to_owned();
    if let Some(identity) = &stamp.service.identity {
        text += &format!("  annotations:\n    azure.workload.identity/client-id: {identity:?}\n");
    }
    text
}

fn deployment(image: &str, stamp: &Stamp) -> String {
    let service = &stamp.service;
    format!(
        "apiVersion: apps/v1\n\
         kind: Deployment\n\
         metadata:\n\
         \x20 name: stampworks\n\
         spec:\n\
         \x20 selector:\n\
         \x20   matchLabels:\n\
         \x20     app: stampworks\n\
         \x20 template:\n\
         \x20   metadata:\n\
         \x20     labels:\n\
         \x20       app: stampworks\n\
         \x20       azure.workload.identity/use: \"true\"\n\
         \x20   spec:\n\
         \x20     serviceAccountName: stampworks\n\
         \x20     terminationGracePeriodSeconds: 40\n\
         \x20     securityContext:\n\
         \x20       runAsNonRoot: true\n\
         \x20       runAsUser: 65532\n\
         \x20       seccompProfile:\n\
         \x20         type: RuntimeDefault\n\
         \x20     containers:\n\
         \x20     - name: stampworks\n\
         \x20       image: {image}\n\
         \x20       args: [\"consume\", \"--config\", \"/etc/stampworks/stamp.toml\"]\n\
         \x20       env:\n\
         \x20       - name: EVENT_HUB_CONNECTION_STRING\n\
         \x20         valueFrom:\n\
         \x20           secretKeyRef:\n\
         \x20             name: event-hub\n\
         \x20             key: connection-string\n\
         \x20       ports:\n\
         \x20       - name: metrics\n\
         \x20         containerPort: 9464\n\
         \x20       livenessProbe:\n\
         \x20         httpGet: {{ path: /livez, port: metrics }}\n\
         \x20       startupProbe:\n\
         \x20         httpGet: {{ path: /startupz, port: metrics }}\n\
         \x20         failureThreshold: 60\n\
         \x20         periodSeconds: 5\n\
         \x20       readinessProbe:\n\
         \x20         httpGet: {{ path: /readyz, port: metrics }}\n\
         \x20       resources:\n\
         \x20         requests: {{ cpu: {cpu}m, memory: {memory} }}\n\
         \x20         limits: {{ memory: {memory} }}\n\
         \x20       securityContext:\n\
         \x20         allowPrivilegeEscalation: false\n\
         \x20         readOnlyRootFilesystem: true\n\
         \x20         capabilities:\n\
         \x20           drop: [\"ALL\"]\n\
         \x20       volumeMounts:\n\
         \x20       - name: config\n\
         \x20         mountPath: /etc/stampworks\n\
         \x20         readOnly: true\n\
         \x20     volumes:\n\
         \x20     - name: config\n\
         \x20       configMap:\n\
         \x20         name: stampworks\n",
        cpu = service.cpu_millicores,
        memory = service.memory_bytes,
    )
}

/// Headless, so that the name has an address for each process: `fleet status` asks each.
fn service() -> String {
    "apiVersion: v1\n\
     kind: Service\n\
     metadata:\n\
     \x20 name: stampworks\n\
     spec:\n\
     \x20 clusterIP: None\n\
     \x20 publishNotReadyAddresses: true\n\
     \x20 selector:\n\
     \x20   app: stampworks\n\
     \x20 ports:\n\
     \x20 - name: metrics\n\
     \x20   port: 9464\n\
     \x20   targetPort: metrics\n"
        .to_owned()
}

/// Scales on the lag of the checkpoint blobs, which are in the layout that `blobMetadata` reads. A
/// stamp that writes to a local folder is one process.
fn scaled_object(stamp: &Stamp) -> Option<String> {
    let (account, path) = stamp.storage_root.strip_prefix("az://")?.split_once('/')?;
    let container = path.split('/').next().unwrap_or(path);
    let hub = &stamp.event_hub;
    let identity = stamp.service.identity.as_ref();
    let identity = identity.map_or(String::new(), |id| format!("    identityId: {id:?}\n"));
    Some(format!(
        "apiVersion: keda.sh/v1alpha1\n\
         kind: TriggerAuthentication\n\
         metadata:\n\
         \x20 name: stampworks\n\
         spec:\n\
         \x20 podIdentity:\n\
         \x20   provider: azure-workload\n\
         {identity}\
         ---\n\
         apiVersion: keda.sh/v1alpha1\n\
         kind: ScaledObject\n\
         metadata:\n\
         \x20 name: stampworks\n\
         spec:\n\
         \x20 scaleTargetRef:\n\
         \x20   name: stampworks\n\
         \x20 minReplicaCount: {min}\n\
         \x20 maxReplicaCount: {max}\n\
         \x20 triggers:\n\
         \x20 - type: azure-eventhub\n\
         \x20   authenticationRef:\n\
         \x20     name: stampworks\n\
         \x20   metadata:\n\
         \x20     eventHubNamespace: {namespace:?}\n\
         \x20     eventHubName: {hub:?}\n\
         \x20     consumerGroup: {group:?}\n\
         \x20     checkpointStrategy: blobMetadata\n\
         \x20     storageAccountName: {account:?}\n\
         \x20     blobContainer: {container:?}\n\
         \x20     unprocessedEventThreshold: \"10000\"\n",
        min = stamp.service.replicas_min,
        max = stamp.service.replicas_max,
        namespace = hub.namespace.split('.').next().unwrap_or(&hub.namespace),
        hub = hub.hub,
        group = hub.consumer_group,
    ))
}

/// What `stampworks consume` reads.
fn config(stamp: &Stamp, tenants: &[(&Tenant, String)]) -> String {
    let hub = &stamp.event_hub;
    let (store, ownership) = match stamp.storage_root.starts_with("az://") {
        true => ("workload-identity = true\n", "\n[consumer.ownership]\n"),
        // A local folder has no compare-and-set: one process.
        false => ("", ""),
    };
    let mut text = format!(
        "# Written by `stampworks fleet render`; change the catalogue instead.\n\
         stamp = \"{id}\"\n\n\
         [hub]\n\
         endpoint = \"amqps://{namespace}\"\n\
         connection-string-env = \"EVENT_HUB_CONNECTION_STRING\"\n\
         hub = \"{hub}\"\n\
         consumer-group = \"{group}\"\n\n\
         [store]\n\
         url = \"{root}\"\n{store}\n\
         [consumer]\n\
         buffer-max = \"{buffer}MiB\"\n{ownership}\n\
         [telemetry]\n\
         listen = \"0.0.0.0:9464\"\n",
        id = stamp.id,
        namespace = hub.namespace,
        hub = hub.hub,
        group = hub.consumer_group,
        root = stamp.storage_root,
        // A quarter: encoding, commits and the process itself need the rest.
        buffer = (stamp.service.memory_bytes >> 20) / 4,
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
    }
    text
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
