"""Owner levels: a higher one displaces the reader, a lower one is refused.

Arguments: connection string.
"""

import sys
import threading

from azure.eventhub import EventHubConsumerClient

from eventhubs import answer, describe, receive


def main(connection_string):
    first = EventHubConsumerClient.from_connection_string(
        connection_string, consumer_group="$Default", retry_total=0
    )
    reading, displaced = threading.Event(), threading.Event()
    errors = []

    def on_batch(_context, batch):
        if batch:
            reading.set()

    def on_error(_context, error):
        errors.append(describe(error))
        displaced.set()

    worker = threading.Thread(
        target=first.receive_batch,
        args=(on_batch,),
        kwargs={
            "partition_id": "0",
            "starting_position": "-1",
            "owner_level": 1,
            "on_error": on_error,
            "max_wait_time": 1,
        },
        daemon=True,
    )
    worker.start()
    was_reading = reading.wait(60)

    lower, lower_errors = receive(connection_string, "0", 1, "-1", owner_level=0)
    higher, higher_errors = receive(connection_string, "0", 5, "-1", owner_level=2)
    was_displaced = displaced.wait(60)
    first.close()
    worker.join(30)
    answer(
        {
            "was_reading": was_reading,
            "was_displaced": was_displaced,
            "first_errors": errors,
            "lower": {"events": len(lower), "errors": lower_errors},
            "higher": {"events": len(higher), "errors": higher_errors},
        }
    )


main(sys.argv[1])
