"""Where each device's readings are, by a reader that does not know how they were written.

story_readers.py FOLDER STAMP...: the folder of `stampworks demo --provisioning` and its stamps.
Prints, for each device, the stamps that have it with the numbers of its readings, ascending; and where
the provisioner's database says that it is.
"""

import json
import os
import sqlite3
import sys
import warnings

import deltalake
import duckdb

# DeltaTable.to_pyarrow_dataset announces that it will move; the way it takes does not matter here.
warnings.simplefilter("ignore")

folder, *stamps = sys.argv[1:]
db = duckdb.connect()
found = {}
for stamp in stamps:
    root = f"{folder}/{stamp}/tables"
    for tenant in sorted(os.listdir(root)):
        path = f"{root}/{tenant}/readings"
        if not os.path.isdir(f"{path}/_delta_log"):
            continue
        db.register("rows", deltalake.DeltaTable(path).to_pyarrow_dataset())
        for device, numbers in db.sql(
            "SELECT device_id, list(n ORDER BY n) FROM rows GROUP BY device_id"
        ).fetchall():
            found.setdefault(device, {})[stamp] = numbers
        db.unregister("rows")
bookings = sqlite3.connect(f"{folder}/fleet.db").execute("SELECT subject, stamp FROM bookings").fetchall()
print(json.dumps({"readings": found, "bookings": dict(bookings)}), flush=True)
# A reader's threads may still be at work, and tearing them down is not what is tested.
os._exit(0)
