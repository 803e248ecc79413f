"""Reads all checkpoints of a group with the Azure SDK's own store, and writes one for partition 5.

checkpoint_store.py CONNECTION_STRING CONTAINER NAMESPACE HUB GROUP
"""

import json
import sys

from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore

connection_string, container, namespace, hub, group = sys.argv[1:]
store = BlobCheckpointStore.from_connection_string(connection_string, container, retry_total=0)
read = [
    {key: checkpoint[key] for key in ("partition_id", "sequence_number", "offset")}
    for checkpoint in store.list_checkpoints(namespace, hub, group)
]
store.update_checkpoint(
    {
        "fully_qualified_namespace": namespace,
        "eventhub_name": hub,
        "consumer_group": group,
        "partition_id": "5",
        "sequence_number": 41,
        "offset": "9001",
    }
)
print(json.dumps({"read": read}))
