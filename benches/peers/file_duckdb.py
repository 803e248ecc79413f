"""A file of bodies to validated, sorted Parquet and 1-minute aggregates, with DuckDB on one thread.

Arguments: the file, the folder for what is written. Prints the counts as JSON.
"""

import json
import sys
from pathlib import Path

import duckdb

from rules import METRICS, TEXTS, sql_condition


def main(source, folder):
    folder = Path(folder)
    columns = {"device": "VARCHAR", "ts": "TIMESTAMP", "seq": "BIGINT"}
    columns |= dict.fromkeys(TEXTS, "VARCHAR") | dict.fromkeys(METRICS, "DOUBLE")
    types = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
    base = duckdb.connect()
    base.execute("SET threads = 1")
    base.execute("SET preserve_insertion_order = false")
    base.execute(
        f"CREATE TEMP TABLE bodies AS SELECT * FROM read_json('{source}', "
        f"format = 'newline_delimited', columns = {{{types}}}, ignore_errors = true)"
    )
    valid = f"FROM bodies WHERE {sql_condition()}"
    zstd = "(FORMAT parquet, COMPRESSION zstd)"
    base.execute(f"COPY (SELECT * {valid} ORDER BY device, ts) TO '{folder}/readings.parquet' {zstd}")
    metrics = ", ".join(METRICS)
    base.execute(
        f"COPY (SELECT device, metric, date_trunc('minute', ts) AS minute, count(*) AS count, "
        f"min(value) AS min, max(value) AS max, sum(value) AS sum, arg_min(value, ts) AS first, "
        f"arg_max(value, ts) AS last FROM (SELECT device, ts, {metrics} {valid}) "
        f"UNPIVOT (value FOR metric IN ({metrics})) GROUP BY ALL ORDER BY ALL) "
        f"TO '{folder}/rollups.parquet' {zstd}"
    )
    (rejected,) = base.execute(f"SELECT count(*) FROM bodies WHERE NOT ({sql_condition()})").fetchone()
    print(json.dumps({"rejected": rejected}))


main(*sys.argv[1:])
