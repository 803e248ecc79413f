"""Reads the tables of a demo run with readers that do not know how they were written.

demo_readers.py FOLDER MERGE_VIEW TENANTS: the demo's folder, a file with the SQL of the view that
merges rollups, and a JSON object of stamps to tenants to metric columns. Prints what each reader
finds, in the shape of the demo's own report.
"""

import json
import os
import sys
import warnings

import deltalake
import duckdb
import polars
import pyarrow.compute

# DeltaTable.to_pyarrow_dataset announces that it will move; the way it takes does not matter here.
warnings.simplefilter("ignore")

folder, view, tenants = sys.argv[1:]
with open(view, encoding="utf-8") as file:
    merge_view = file.read().replace("CREATE OR REPLACE VIEW", "CREATE OR REPLACE TEMP VIEW")


def by_reason(table):
    connection = duckdb.connect()
    connection.register("rows", deltalake.DeltaTable(table).to_pyarrow_dataset())
    return dict(connection.sql("SELECT reason, count(*) FROM rows GROUP BY reason").fetchall())


def tenant(root, metrics):
    table = deltalake.DeltaTable(f"{root}/readings")
    dataset = table.to_pyarrow_dataset()
    arrow = dataset.to_table()
    lazy = polars.scan_delta(f"{root}/readings")
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("readings", dataset)
    connection.register("rollups", deltalake.DeltaTable(f"{root}/rollups").to_pyarrow_dataset())
    connection.execute(merge_view)
    sums = ", ".join(f"count({m}), coalesce(sum({m}), 0)" for m in metrics)
    duck = connection.sql(f"SELECT {sums} FROM readings").fetchall()[0]
    merged = dict(
        (metric, {"count": count, "sum": total})
        for metric, count, total in connection.sql(
            'SELECT metric, sum("count")::BIGINT, sum("sum") FROM rollups_merged GROUP BY metric'
        ).fetchall()
    )
    totals = lazy.select(
        [polars.col(m).count().alias(f"{m}_count") for m in metrics]
        + [polars.col(m).sum().alias(f"{m}_sum") for m in metrics]
    ).collect()
    return {
        "rows": {
            "pyarrow": arrow.num_rows,
            "deltalake": sum(table.get_add_actions(flatten=True)["num_records"].to_pylist()),
            "polars": lazy.select(polars.len()).collect().item(),
            "duckdb": connection.sql("SELECT count(*) FROM readings").fetchall()[0][0],
        },
        "events": connection.sql(
            "SELECT count(*) FROM (SELECT DISTINCT partition, sequence FROM readings)"
        ).fetchall()[0][0],
        "late": connection.sql("SELECT count(*) FROM readings WHERE late").fetchall()[0][0],
        "clock_suspect": connection.sql(
            "SELECT count(*) FROM readings WHERE clock_suspect"
        ).fetchall()[0][0],
        "metrics": {
            "pyarrow": {
                m: {
                    "count": arrow.num_rows - arrow[m].null_count,
                    "sum": pyarrow.compute.sum(arrow[m]).as_py() or 0.0,
                }
                for m in metrics
            },
            "polars": {
                m: {"count": totals[f"{m}_count"][0], "sum": totals[f"{m}_sum"][0]} for m in metrics
            },
            "duckdb": {
                m: {"count": duck[2 * at], "sum": duck[2 * at + 1]} for at, m in enumerate(metrics)
            },
            "rollups": merged,
        },
        "rejected": by_reason(f"{root}/rejected"),
    }


answer = {}
for stamp, of_stamp in json.loads(tenants).items():
    root = f"{folder}/{stamp}/tables"
    answer[stamp] = {
        "tenants": {name: tenant(f"{root}/{name}", metrics) for name, metrics in of_stamp.items()},
        "quarantine": by_reason(f"{root}/_stamp/quarantine"),
    }
print(json.dumps(answer), flush=True)
# A reader's threads may still be at work, and tearing them down is not what is tested.
os._exit(0)
