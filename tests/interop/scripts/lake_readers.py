"""Reads a lake with readers that do not know how it was written.

lake_readers.py ROOT MERGE_VIEW: the folder of a tenant, and a file with the SQL of the view.
Prints what each reader counts and sums, and the rollups as the view merges them.
"""

import json
import os
import sys
import warnings

import deltalake
import duckdb
import polars

# DeltaTable.to_pyarrow_dataset announces that it will move; the way it takes does not matter here.
warnings.simplefilter("ignore")

root, view = sys.argv[1:]
table = deltalake.DeltaTable(f"{root}/readings")
readings = table.to_pyarrow_dataset()

arrow = readings.to_table()
answer = {
    "pyarrow": [arrow.num_rows, sum(value for value in arrow["temp"].to_pylist())],
    "deltalake": [sum(table.get_add_actions(flatten=True)["num_records"].to_pylist())],
    "polars": list(
        polars.scan_delta(f"{root}/readings")
        .select(polars.len(), polars.col("temp").sum())
        .collect()
        .row(0)
    ),
    "unit": arrow.schema.field("temp").metadata[b"unit"].decode(),
}

connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
connection.register("readings", readings)
answer["duckdb"] = list(
    connection.sql("SELECT count(*), sum(temp) FROM readings").fetchall()[0]
)

rollups = deltalake.DeltaTable(f"{root}/rollups").to_pyarrow_dataset()
connection.register("rollups", rollups)
with open(view, encoding="utf-8") as file:
    sql = file.read().replace("CREATE OR REPLACE VIEW", "CREATE OR REPLACE TEMP VIEW")
connection.execute(sql)
columns = (
    '"count", "sum", mean, "min", "max", "first", epoch_us(first_ts), "last", epoch_us(last_ts), '
    "m2, variance, late_count, sequence_first, sequence_last"
)
answer["merged"] = [
    list(row)
    for row in connection.sql(
        f"SELECT device_id, {columns} FROM rollups_merged ORDER BY device_id"
    ).fetchall()
]
print(json.dumps(answer), flush=True)
# A reader's threads may still be at work, and tearing them down is not what is tested.
os._exit(0)
