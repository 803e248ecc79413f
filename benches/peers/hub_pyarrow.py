"""A hub to validated, sorted Parquet and 1-minute aggregates, as a consumer in Python would do it: azure-eventhub,
json, pyarrow. It writes no table format, keeps no position and commits nothing.

Arguments: connection string, partitions, events, the folder for what is written. Prints the counts as JSON.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hub import receive
from rules import METRICS, TEXTS

# Of a flush: the default of Stampworks' consumer.
FLUSH_ROWS = 200_000

SCHEMA = pa.schema(
    [("device", pa.string()), ("ts", pa.timestamp("us", "UTC")), ("seq", pa.int64())]
    + [(name, pa.string()) for name in TEXTS]
    + [(name, pa.float64()) for name in METRICS]
)


class Writer:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.rejected = 0
        self.flushes = 0
        self.columns = {name: [] for name in SCHEMA.names}

    def add(self, bodies):
        for body in bodies:
            try:
                row = json.loads(body)
                valid = all(
                    row[name] >= least and (most is None or row[name] <= most)
                    for name, (least, most) in METRICS.items()
                )
                row = [row[name] for name in SCHEMA.names] if valid else None
            except (ValueError, KeyError, TypeError):
                row = None
            if row is None or None in row:
                self.rejected += 1
                continue
            for column, value in zip(self.columns.values(), row):
                column.append(value)
        if len(self.columns["ts"]) >= FLUSH_ROWS:
            self.flush()

    def flush(self):
        if not self.columns["ts"]:
            return
        arrays = {name: pa.array(values) for name, values in self.columns.items()}
        # The text has a time zone: the cast reads it.
        arrays["ts"] = arrays["ts"].cast(pa.timestamp("us", "UTC"))
        table = pa.table(arrays, schema=SCHEMA).sort_by([("device", "ascending"), ("ts", "ascending")])
        self.write("readings", table)
        minute = pc.floor_temporal(table["ts"], unit="minute")
        parts = []
        for name in METRICS:
            long = pa.table({"device": table["device"], "minute": minute, "value": table[name]})
            # Rows of a device are in the order of time, and one thread keeps it.
            grouped = long.group_by(["device", "minute"], use_threads=False).aggregate(
                [("value", how) for how in ("count", "min", "max", "sum", "first", "last")]
            )
            metric = pa.array([name] * len(grouped)).dictionary_encode()
            parts.append(grouped.append_column("metric", metric))
        self.write("rollups", pa.concat_tables(parts, promote_options="default").unify_dictionaries())
        self.flushes += 1
        for column in self.columns.values():
            column.clear()

    def write(self, kind, table):
        pq.write_table(table, self.folder / f"{kind}-{self.flushes:04}.parquet", compression="zstd")


def main(connection_string, partitions, events, folder):
    pa.set_cpu_count(1)
    writer = Writer(folder)
    receive(connection_string, int(partitions), int(events), writer.add)
    writer.flush()
    print(json.dumps({"rejected": writer.rejected}))


main(*sys.argv[1:])
