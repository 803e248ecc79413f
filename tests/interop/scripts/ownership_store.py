"""Claims partitions with the Azure SDK's own store, beside owners that are there.

ownership_store.py CONNECTION_STRING CONTAINER NAMESPACE HUB GROUP

Lists the owners, takes partition 0 from its owner, tries to take partition 1 by a version that is
behind, claims partition 5, which nobody had, and gives partition 2 back.
"""

import json
import sys

from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore

connection_string, container, namespace, hub, group = sys.argv[1:]
store = BlobCheckpointStore.from_connection_string(connection_string, container, retry_total=0)
listed = {found["partition_id"]: found for found in store.list_ownership(namespace, hub, group)}


def claim(partition, owner, etag):
    wanted = {
        "fully_qualified_namespace": namespace,
        "eventhub_name": hub,
        "consumer_group": group,
        "partition_id": partition,
        "owner_id": owner,
    }
    if etag is not None:
        wanted["etag"] = etag
    return [claimed["partition_id"] for claimed in store.claim_ownership([wanted])]


print(
    json.dumps(
        {
            "owners": {partition: found["owner_id"] for partition, found in listed.items()},
            "taken": claim("0", "sdk", listed["0"]["etag"]),
            "behind": claim("1", "sdk", '"0x8D0000000000000"'),
            "new": claim("5", "sdk", None),
            "given_back": claim("2", "", listed["2"]["etag"]),
        }
    )
)
