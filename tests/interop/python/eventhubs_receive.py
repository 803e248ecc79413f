"""Receives a partition from a position.

Arguments: connection string, partition, count, position (a number is a sequence number, other text
an offset), `inclusive` or `exclusive`.
"""

import sys

from eventhubs import answer, receive


def main(connection_string, partition, count, position, inclusive):
    if position.lstrip("-").isdigit() and position != "-1":
        position = int(position)
    events, errors = receive(
        connection_string, partition, int(count), position, inclusive == "inclusive"
    )
    answer({"events": events, "errors": errors})


main(*sys.argv[1:])
