"""Registry and twins through azure-iot-hub. Arguments: connection string."""

import sys

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    ExportImportDevice,
    AuthenticationMechanism,
    QuerySpecification,
    SymmetricKey,
    Twin,
    TwinProperties,
)
from iothub import answer, refused

KEY = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk="
OTHER = "c2Vjb25kYXJ5LXNlY29uZGFyeS1zZWM="


def main(connection_string):
    manager = IoTHubRegistryManager.from_connection_string(connection_string)
    created = manager.create_device_with_sas("pump-1", KEY, OTHER, "enabled")
    again = refused(manager.create_device_with_sas, "pump-1", KEY, OTHER, "enabled")
    missing = refused(manager.get_device, "nobody")
    updated = manager.update_device_with_sas(
        "pump-1", created.etag, KEY, OTHER, "disabled", status_reason="moved"
    )
    stale = refused(
        manager.update_device_with_sas, "pump-1", created.etag, KEY, OTHER, "enabled"
    )
    patch = Twin(tags={"tenant": "acme"}, properties=TwinProperties(desired={"rate": 5}))
    twin = manager.update_twin("pump-1", patch, "*")
    stale_twin = refused(manager.update_twin, "pump-1", patch, "old")
    bulk = manager.bulk_create_or_update_devices(
        [
            ExportImportDevice(
                id=f"bulk-{n:02}",
                status="enabled",
                import_mode="create",
                authentication=AuthenticationMechanism(
                    type="sas", symmetric_key=SymmetricKey(primary_key=KEY, secondary_key=OTHER)
                ),
            )
            for n in range(25)
        ]
    )
    pages, token = [], None
    query = QuerySpecification(query="SELECT * FROM devices WHERE status = 'enabled'")
    while True:
        page = manager.query_iot_hub(query, token, 10)
        pages.append([item.device_id for item in page.items])
        token = page.continuation_token
        if not token:
            break
    by_tag = manager.query_iot_hub(
        QuerySpecification(query="SELECT * FROM devices WHERE tags.tenant = 'acme'")
    )
    bad_query = refused(manager.query_iot_hub, QuerySpecification(query="DROP devices"))
    statistics = manager.get_device_registry_statistics()
    manager.delete_device("bulk-00")
    recreated = manager.create_device_with_sas("bulk-00", KEY, OTHER, "enabled")
    wrong_key = connection_string.rsplit("SharedAccessKey=", 1)[0] + "SharedAccessKey=" + KEY
    wrong = IoTHubRegistryManager.from_connection_string(wrong_key)
    answer(
        {
            "created": {"status": created.status, "generation": created.generation_id},
            "keys": created.authentication.symmetric_key.primary_key == KEY,
            "again": again,
            "missing": missing,
            "updated": {"status": updated.status, "reason": updated.status_reason},
            "same_generation": updated.generation_id == created.generation_id,
            "stale": stale,
            "twin": {"tags": twin.tags, "version": twin.version, "rate": twin.properties.desired["rate"]},
            "desired_version": twin.properties.desired["$version"],
            "stale_twin": stale_twin,
            "bulk": bulk.is_successful,
            "pages": pages,
            "by_tag": [item.device_id for item in by_tag.items],
            "bad_query": bad_query,
            "statistics": [
                statistics.total_device_count,
                statistics.enabled_device_count,
                statistics.disabled_device_count,
            ],
            "listed": len(manager.get_devices(7)),
            "recreated": recreated.generation_id,
            "wrong_key": refused(wrong.get_device, "pump-1"),
        }
    )


main(*sys.argv[1:])
