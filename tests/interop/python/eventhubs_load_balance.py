"""Two consumers share a hub's partitions through a blob checkpoint store; a third takes over.

Arguments: connection string of the hub, of the blob account, container, events in the hub.
"""

import sys
import threading

from azure.eventhub import EventHubConsumerClient
from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore

from eventhubs import answer, describe


class Consumer:
    """One consumer that checkpoints every batch and notes which partitions it had."""

    def __init__(self, connection_string, store, changed):
        self.store = store
        self.changed = changed
        self.seen = []
        self.errors = []
        self.owned = set()
        self.namespace = None
        self.client = EventHubConsumerClient.from_connection_string(
            connection_string,
            consumer_group="$Default",
            checkpoint_store=store,
            load_balancing_interval=1,
            partition_ownership_expiration_interval=20,
        )
        self.worker = threading.Thread(target=self.run, daemon=True)
        self.worker.start()

    def run(self):
        self.client.receive_batch(
            self.on_batch,
            on_error=self.on_error,
            on_partition_initialize=lambda context: self.own(context, True),
            on_partition_close=lambda context, _reason: self.own(context, False),
            starting_position="-1",
            max_wait_time=1,
        )

    def own(self, context, owns):
        self.namespace = context.fully_qualified_namespace
        with self.changed:
            (self.owned.add if owns else self.owned.discard)(context.partition_id)
            self.changed.notify_all()

    def on_batch(self, context, batch):
        if batch:
            context.update_checkpoint()
        with self.changed:
            self.seen.extend((context.partition_id, event.sequence_number) for event in batch)
            self.changed.notify_all()

    def on_error(self, _context, error):
        with self.changed:
            self.errors.append(describe(error))

    def stop(self):
        self.client.close()
        self.worker.join(60)


def store_for(blob_connection_string, container):
    return BlobCheckpointStore.from_connection_string(blob_connection_string, container)


def main(connection_string, blob_connection_string, container, events):
    events = int(events)
    changed = threading.Condition()
    first = Consumer(connection_string, store_for(blob_connection_string, container), changed)
    with changed:
        alone = changed.wait_for(lambda: len(first.owned) == 4, 90)
        seen_all = changed.wait_for(lambda: len(set(first.seen)) >= events, 90)
    second = Consumer(connection_string, store_for(blob_connection_string, container), changed)
    with changed:
        shared = changed.wait_for(
            lambda: len(first.owned) == 2 and len(second.owned) == 2, 120
        )
        split = [sorted(first.owned), sorted(second.owned)]
    first.stop()
    second.stop()

    store = store_for(blob_connection_string, container)
    hub = first.client.eventhub_name
    checkpoints = {
        found["partition_id"]: found["sequence_number"]
        for found in store.list_checkpoints(first.namespace, hub, "$Default")
    }
    store.close()
    answer(
        {
            "alone": alone,
            "seen_all": seen_all,
            "shared": shared,
            "split": split,
            "seen_first": len(set(first.seen)),
            "seen_again": len(first.seen) + len(second.seen) - len(set(first.seen) | set(second.seen)),
            "checkpoints": checkpoints,
            "errors": [error["text"][:200] for error in first.errors + second.errors],
        }
    )


main(*sys.argv[1:])
