"""The rules of the bench's schema that a body alone can break, and the columns of its readings.

The times of a reading are not checked against the hub's: a file has no enqueued times.
"""

TEXTS = ("site", "line", "fw")
METRICS = {
    "temperature": (-60.0, 150.0),
    "humidity": (0.0, 100.0),
    "pressure": (300.0, 1200.0),
    "vibration": (0.0, None),
    "voltage": (0.0, 1000.0),
}


def sql_condition():
    """A condition that is true for a valid row."""
    parts = [f"{name} IS NOT NULL" for name in ("device", "ts", "seq", *TEXTS, *METRICS)]
    for name, (least, most) in METRICS.items():
        parts.append(f"{name} >= {least}")
        if most is not None:
            parts.append(f"{name} <= {most}")
    return " AND ".join(parts)
