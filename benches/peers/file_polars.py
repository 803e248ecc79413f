"""A file of bodies to validated, sorted Parquet and 1-minute aggregates, with polars on one thread.

Arguments: the file, the folder for what is written. Prints the counts as JSON. The driver sets
POLARS_MAX_THREADS.
"""

import json
import sys
from functools import reduce
from operator import and_
from pathlib import Path

import polars as pl

from rules import METRICS, TEXTS


def main(source, folder):
    folder = Path(folder)
    schema = {"device": pl.String, "ts": pl.String, "seq": pl.Int64}
    schema |= dict.fromkeys(TEXTS, pl.String) | dict.fromkeys(METRICS, pl.Float64)
    bodies = pl.read_ndjson(source, schema=schema).with_columns(
        pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", strict=False)
    )
    conditions = [pl.col(name).is_not_null() for name in schema]
    for name, (least, most) in METRICS.items():
        conditions.append(pl.col(name) >= least)
        if most is not None:
            conditions.append(pl.col(name) <= most)
    readings = bodies.filter(reduce(and_, conditions)).sort("device", "ts")
    readings.write_parquet(folder / "readings.parquet", compression="zstd")
    value = pl.col("value")
    rollups = (
        readings.unpivot(
            on=list(METRICS), index=["device", "ts"], variable_name="metric", value_name="value"
        )
        .group_by("device", "metric", pl.col("ts").dt.truncate("1m").alias("minute"))
        .agg(
            value.len().alias("count"),
            value.min().alias("min"),
            value.max().alias("max"),
            value.sum().alias("sum"),
            # Rows of a device are in the order of time.
            value.first().alias("first"),
            value.last().alias("last"),
        )
        .sort("device", "metric", "minute")
    )
    rollups.write_parquet(folder / "rollups.parquet", compression="zstd")
    print(json.dumps({"rejected": bodies.height - readings.height}))


main(*sys.argv[1:])
