"""Changes a Delta table as another engine would: `lake_foreign.py FOLDER ACTION...`.

Actions: append (one row of another device), compact, checkpoint, forget-log (drops every log
entry that a checkpoint covers), vacuum (removes every file that no version needs now).
Prints {"version": N, "rows": N, "files": N}.
"""

import json
import os
import sys

import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake


def append(folder):
    table = DeltaTable(folder).to_pyarrow_table()
    row = table.slice(0, 1)
    for name, value in (("device_id", "foreign"), ("partition", 7)):
        at = row.schema.get_field_index(name)
        field = row.schema.field(at)
        row = row.set_column(at, field, pc.cast([value], field.type))
    write_deltalake(folder, row, mode="append")


def compact(folder):
    DeltaTable(folder).optimize.compact()


def checkpoint(folder):
    DeltaTable(folder).create_checkpoint()


def forget_log(folder):
    table = DeltaTable(folder)
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    table = DeltaTable(folder)
    table.create_checkpoint()
    table.cleanup_metadata()


def vacuum(folder):
    DeltaTable(folder).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False
    )


ACTIONS = {
    "append": append,
    "compact": compact,
    "checkpoint": checkpoint,
    "forget-log": forget_log,
    "vacuum": vacuum,
}

folder, *actions = sys.argv[1:]
for action in actions:
    ACTIONS[action](folder)
table = DeltaTable(folder)
print(
    json.dumps(
        {
            "version": table.version(),
            "rows": table.to_pyarrow_table().num_rows,
            "files": len(table.file_uris()),
        }
    ),
    flush=True,
)
# An engine's threads may still be at work, and tearing them down is not what is tested.
os._exit(0)
