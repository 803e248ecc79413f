"""Sends in every way the client knows and reads the hub's properties.

Arguments: connection string.
"""

import sys

from azure.eventhub import EventData, EventHubProducerClient

from eventhubs import answer, describe


def event(number):
    data = EventData(f'{{"n":{number}}}')
    data.properties = {"kind": "batched", "n": number}
    data.message_id = f"m-{number}"
    data.content_type = "application/json"
    return data


def refused(act):
    try:
        act()
    except Exception as error:  # the script reports whatever the client raises
        return describe(error)
    return None


def main(connection_string):
    producer = EventHubProducerClient.from_connection_string(connection_string, retry_total=0)
    with producer:
        hub = producer.get_eventhub_properties()
        empty = producer.get_partition_properties("1")

        batch = producer.create_batch(partition_id="1")
        for number in range(60):
            batch.add(event(number))
        producer.send_batch(batch)
        producer.send_event(EventData(b"one event"), partition_id="1")
        producer.send_event(EventData("x" * 700_000), partition_id="1")

        for key in ["device-a", "device-b", "device-c"]:
            keyed = producer.create_batch(partition_key=key)
            keyed.add(EventData(f"first of {key}"))
            keyed.add(EventData(f"second of {key}"))
            producer.send_batch(keyed)

        filled = producer.get_partition_properties("1")
        unknown = refused(lambda: producer.send_event(EventData("x"), partition_id="99"))

    missing = EventHubProducerClient.from_connection_string(
        connection_string.replace("EntityPath=telemetry", "EntityPath=missing"), retry_total=0
    )
    with missing:
        no_hub = refused(lambda: missing.send_event(EventData("x")))

    answer(
        {
            "name": hub["eventhub_name"],
            "created_ms": round(hub["created_at"].timestamp() * 1000),
            "partitions": hub["partition_ids"],
            "empty": empty["is_empty"],
            "last_before": empty["last_enqueued_sequence_number"],
            "last_after": filled["last_enqueued_sequence_number"],
            "begin_after": filled["beginning_sequence_number"],
            "offset_after": filled["last_enqueued_offset"],
            "unknown_partition": unknown,
            "no_hub": no_hub,
        }
    )


main(sys.argv[1])
