"""Recounts the tables of a soak with readers that do not know how they were written.

soak_recount.py CONNECTION_STRING CONTAINER FOLDER LEDGER: downloads the container to FOLDER, opens
its tables with deltalake, and compares them in DuckDB with the producer's ledger (CSV: partition,
sequence, tenant, fate, time in ms, value), event by event and by tenant and window. pyarrow counts
the rows of the Parquet files once more. Prints counts and differences as JSON.
"""

import json
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import deltalake
import duckdb
import pyarrow.parquet
from azure.storage.blob import ContainerClient

# DeltaTable.to_pyarrow_dataset announces that it will move; the way it takes does not matter here.
warnings.simplefilter("ignore")

connection_string, container, folder, ledger = sys.argv[1:]
TENANTS = ["contoso", "fabrikam", "northwind"]


def download():
    client = ContainerClient.from_connection_string(connection_string, container)

    def one(name):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            client.download_blob(name).readinto(file)

    wanted = [name for name in client.list_blob_names() if "/_delta_log/" in name or name.endswith(".parquet")]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, wanted))


differences = []


def differ(text, rows):
    if rows:
        differences.append(f"{text}: {len(rows)}, such as {rows[:3]}")


def files_hold(name, rows):
    """The footers of the files that the log names say how many rows there are."""
    table = deltalake.DeltaTable(f"{folder}/{name}")
    counted = 0
    for path in table.to_pyarrow_dataset().files:
        path = path if path.startswith("/") else os.path.join(folder, name, path)
        counted += pyarrow.parquet.ParquetFile(path).metadata.num_rows
    if counted != rows:
        differences.append(f"{name}: DuckDB finds {rows} rows, pyarrow {counted}")


download()
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
db.execute(
    "CREATE TABLE ledger AS SELECT * FROM read_csv(?, header = false, columns = "
    "{'partition': 'INTEGER', 'sequence': 'BIGINT', 'tenant': 'VARCHAR', 'fate': 'VARCHAR', "
    "'ms': 'BIGINT', 'value': 'DOUBLE'})",
    [ledger],
)
db.execute(
    "CREATE TABLE found (partition INTEGER, sequence BIGINT, tenant VARCHAR, fate VARCHAR, ms BIGINT, value DOUBLE)"
)
db.execute("CREATE TABLE rolled (tenant VARCHAR, minute BIGINT, count BIGINT, sum DOUBLE)")


def register(name, table):
    path = f"{folder}/{table}"
    db.unregister(name)
    if not os.path.isdir(f"{path}/_delta_log"):
        return False
    db.register(name, deltalake.DeltaTable(path).to_pyarrow_dataset())
    return True


for tenant in TENANTS:
    if register("rows", f"{tenant}/readings"):
        db.execute(
            "INSERT INTO found SELECT partition, sequence, ?, 'reading', epoch_ms(ts), value FROM rows",
            [tenant],
        )
        files_hold(f"{tenant}/readings", db.sql("SELECT count(*) FROM rows").fetchall()[0][0])
    if register("rows", f"{tenant}/rejected"):
        db.execute(
            "INSERT INTO found SELECT partition, sequence, ?, 'rejected', NULL, NULL FROM rows", [tenant]
        )
    if register("rows", f"{tenant}/rollups"):
        db.execute(
            "INSERT INTO rolled SELECT ?, epoch_ms(window_start) // 60000, sum(\"count\"), sum(\"sum\") "
            "FROM rows WHERE metric = 'value' GROUP BY ALL",
            [tenant],
        )
if register("rows", "_stamp/quarantine"):
    # What a tenant's tables could not take, or no longer, lies here as it came, with everything that
    # a replay needs.
    backlog = "reason IN ('tenant_backlog', 'behind_mark')"
    db.execute(
        "INSERT INTO found SELECT partition, sequence, "
        f"CASE WHEN {backlog} THEN split_part(device_id, '-', 1) END, "
        f"CASE WHEN {backlog} THEN 'backlog' ELSE 'quarantined' END, "
        "(decode(body)::JSON ->> 'ts')::BIGINT, (decode(body)::JSON ->> 'value')::DOUBLE FROM rows"
    )
# A record of a backlog gives way to its event in the tenant's table: a partition that changes hands
# while a tenant overflows can have both, and readers of quarantine leave it out (ADR 0004).
returned = db.execute(
    "DELETE FROM found WHERE fate = 'backlog' AND (partition, sequence, tenant) IN "
    "(SELECT (partition, sequence, tenant) FROM found WHERE fate IN ('reading', 'rejected'))"
).fetchall()[0][0]
if register("rows", "_stamp/gaps"):
    differ("rows of gaps", db.sql("SELECT * FROM rows LIMIT 100").fetchall())

once = (
    "SELECT partition, sequence, count(*) AS times, any_value(tenant) AS tenant, any_value(fate) AS fate, "
    "any_value(ms) AS ms, any_value(value) AS value FROM found GROUP BY ALL"
)
db.execute(f"CREATE TABLE once AS {once.replace('GROUP BY ALL', 'GROUP BY partition, sequence')}")
differ("events that are there more than once", db.sql("SELECT partition, sequence, times FROM once WHERE times > 1").fetchall())
differ(
    "events of the ledger that are in no table",
    db.sql("SELECT partition, sequence, fate FROM ledger ANTI JOIN once USING (partition, sequence)").fetchall(),
)
differ(
    "events in the tables that nobody sent",
    db.sql("SELECT partition, sequence, fate FROM once ANTI JOIN ledger USING (partition, sequence)").fetchall(),
)
differ(
    "events in the wrong table",
    db.sql(
        "SELECT partition, sequence, l.fate, o.fate, l.tenant, o.tenant FROM ledger l JOIN once o USING (partition, sequence) "
        "WHERE (o.fate <> 'quarantined' AND o.tenant <> l.tenant) "
        "OR (o.fate <> l.fate AND NOT (o.fate = 'backlog' AND l.fate <> 'quarantined')) "
        "OR (o.fate = 'reading' AND (o.ms <> l.ms OR o.value <> l.value))"
    ).fetchall(),
)

# By tenant and window: what was sent as good is in readings or waits in the backlog.
windows = db.sql(
    "WITH sent AS (SELECT tenant, ms // 60000 AS minute, count(*) AS n, sum(value) AS total FROM ledger "
    "WHERE fate = 'reading' GROUP BY ALL), "
    "kept AS (SELECT tenant, ms // 60000 AS minute, count(*) AS n, sum(value) AS total FROM found "
    "WHERE fate = 'reading' OR (fate = 'backlog' AND value <= 1000) GROUP BY ALL) "
    "SELECT tenant, minute, s.n, k.n, s.total, k.total FROM sent s FULL JOIN kept k USING (tenant, minute)"
).fetchall()
differ("windows whose events differ from the ledger", [w for w in windows if w[2] != w[3] or w[4] != w[5]])
differ(
    "windows whose rollups differ from the readings",
    db.sql(
        "WITH kept AS (SELECT tenant, ms // 60000 AS minute, count(*) AS n, sum(value) AS total FROM found "
        "WHERE fate = 'reading' GROUP BY ALL), "
        "merged AS (SELECT tenant, minute, sum(count) AS n, sum(sum) AS total FROM rolled GROUP BY ALL) "
        "SELECT tenant, minute, k.n, m.n, k.total, m.total FROM kept k FULL JOIN merged m USING (tenant, minute) "
        "WHERE k.n IS DISTINCT FROM m.n OR k.total IS DISTINCT FROM m.total"
    ).fetchall(),
)
counts = dict(db.sql("SELECT fate, count(*) FROM found GROUP BY fate").fetchall())
print(
    json.dumps(
        {
            "readings": counts.get("reading", 0),
            "rejected": counts.get("rejected", 0),
            "quarantined": counts.get("quarantined", 0),
            "backlog": counts.get("backlog", 0),
            "returned": returned,
            "windows": len(windows),
            "differences": differences,
        }
    ),
    flush=True,
)
# A reader's threads may still be at work, and tearing them down is not what is tested.
os._exit(0)
