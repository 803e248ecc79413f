"""A processor joins owners of a consumer group that are there already, has its share, and leaves.

It checkpoints nothing, so the others read again what it read.

Arguments: connection string of the hub, of the blob account, container, partitions it must get.
"""

import sys
import threading

from azure.eventhub import EventHubConsumerClient
from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore

from eventhubs import answer, describe


class PortlessStore(BlobCheckpointStore):
    """Names the blobs by the host alone: a real namespace has no port, an emulator's has one."""

    @staticmethod
    def host(namespace):
        return namespace.split(":")[0]

    def list_ownership(self, fully_qualified_namespace, eventhub_name, consumer_group, **kwargs):
        host = self.host(fully_qualified_namespace)
        return super().list_ownership(host, eventhub_name, consumer_group, **kwargs)

    def claim_ownership(self, ownership_list, **kwargs):
        hosted = [
            {**each, "fully_qualified_namespace": self.host(each["fully_qualified_namespace"])}
            for each in ownership_list
        ]
        return super().claim_ownership(hosted, **kwargs)

    def list_checkpoints(self, fully_qualified_namespace, eventhub_name, consumer_group, **kwargs):
        host = self.host(fully_qualified_namespace)
        return super().list_checkpoints(host, eventhub_name, consumer_group, **kwargs)


def main(connection_string, blob_connection_string, container, wanted):
    changed = threading.Condition()
    owned, seen, errors = set(), [], []
    client = EventHubConsumerClient.from_connection_string(
        connection_string,
        consumer_group="$Default",
        checkpoint_store=PortlessStore.from_connection_string(blob_connection_string, container),
        load_balancing_interval=1,
        partition_ownership_expiration_interval=20,
    )

    def note(context, owns):
        with changed:
            (owned.add if owns else owned.discard)(context.partition_id)
            changed.notify_all()

    def on_batch(context, batch):
        with changed:
            seen.extend((context.partition_id, event.sequence_number) for event in batch)
            changed.notify_all()

    worker = threading.Thread(
        target=client.receive_batch,
        args=(on_batch,),
        kwargs={
            "on_error": lambda _context, error: errors.append(describe(error)["text"][:200]),
            "on_partition_initialize": lambda context: note(context, True),
            "on_partition_close": lambda context, _reason: note(context, False),
            "starting_position": "-1",
            "max_wait_time": 1,
        },
        daemon=True,
    )
    worker.start()
    with changed:
        shared = changed.wait_for(lambda: len(owned) == int(wanted), 120)
        share = sorted(owned)
        # More would be a claim that takes from an owner in balance.
        grew = changed.wait_for(lambda: len(owned) != int(wanted), 10)
        read = len(set(seen))
    client.close()
    worker.join(60)
    answer({"shared": shared, "share": share, "moved": grew, "read": read, "errors": errors})


main(*sys.argv[1:])
