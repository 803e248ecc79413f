"""Receives a hub with azure-eventhub and counts.

Arguments: connection string, partitions, events. Prints the counts as JSON.
"""

import json
import sys

from hub import receive


def main(connection_string, partitions, events):
    counts = {"rows": 0, "body_bytes": 0}

    def count(bodies):
        counts["rows"] += len(bodies)
        counts["body_bytes"] += sum(map(len, bodies))

    receive(connection_string, int(partitions), int(events), count)
    print(json.dumps(counts))


main(*sys.argv[1:])
