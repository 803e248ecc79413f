"""Counts the rows of what a peer wrote, from its files.

Argument: the folder. Prints rows of readings and rollups as JSON.
"""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq


def main(folder):
    def rows(kind):
        return sum(pq.read_metadata(file).num_rows for file in Path(folder).glob(f"{kind}*.parquet"))

    print(json.dumps({"rows": rows("readings"), "rollup_rows": rows("rollups")}))


main(*sys.argv[1:])
