"""What the Event Hubs scripts share."""

import json
import os
import threading

from azure.eventhub import EventHubConsumerClient


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def plain(value):
    """A value of an annotation or property as JSON can hold it."""
    value = text(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def event_fields(event):
    return {
        "sequence": event.sequence_number,
        "offset": event.offset,
        "enqueued_ms": round(event.enqueued_time.timestamp() * 1000),
        "partition_key": text(event.partition_key),
        "body": event.body_as_str()[:200],
        "body_bytes": len(b"".join(event.body)) if event.body else 0,
        "properties": {text(k): plain(v) for k, v in event.properties.items()},
        "system": {text(k): plain(v) for k, v in event.system_properties.items()},
        "message_id": event.message_id,
        "content_type": event.content_type,
    }


def reached_over_tls(connection_string):
    """Options for an emulator that is reached over TLS, whose authority is in the file EVENT_HUBS_CA. The client takes
    a port other than 5671 from a custom endpoint only."""
    if (authority := os.environ.get("EVENT_HUBS_CA")) is None:
        return {}
    endpoint = connection_string.removeprefix("Endpoint=").split(";")[0]
    return {"connection_verify": authority, "custom_endpoint_address": endpoint}


def receive(connection_string, partition, count, position, inclusive=False, wait=60, **options):
    """Receives `count` events of a partition, or what came in `wait` seconds, and any error."""
    client = EventHubConsumerClient.from_connection_string(
        connection_string,
        consumer_group="$Default",
        retry_total=0,
        **reached_over_tls(connection_string),
    )
    events, errors = [], []
    done = threading.Event()

    def on_batch(_context, batch):
        events.extend(event_fields(event) for event in batch)
        if len(events) >= count:
            done.set()

    def on_error(_context, error):
        errors.append(describe(error))
        done.set()

    worker = threading.Thread(
        target=client.receive_batch,
        args=(on_batch,),
        kwargs={
            "partition_id": partition,
            "starting_position": position,
            "starting_position_inclusive": inclusive,
            "on_error": on_error,
            "max_wait_time": 1,
            **options,
        },
        daemon=True,
    )
    worker.start()
    done.wait(wait)
    client.close()
    worker.join(30)
    return events, errors


def describe(error):
    return {"type": type(error).__name__, "text": str(error)}


def answer(value):
    print(json.dumps(value))
