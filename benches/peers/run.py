#!/usr/bin/env python3
"""Runs the bench's input through Stampworks and through peers a user would pick, paired in one run.

Everything runs on this machine, interleaved: each round goes through all contestants, beginning with another one each
time. What is printed are medians. A peer whose rows are not the expected ones ends the run with an error.
The README beside this file says what each contestant does.

Only the standard library; the peers' packages go to target/peers, exactly as requirements.txt pins them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BEGAN = "2026-01-01T00:00:00Z"
# Far more than the slowest peer takes for a million events.
RUN_SECONDS_MAX = 900


class Failed(Exception):
    pass


class Emulator:
    """A filled hub, which ends with the block."""

    def __init__(self, options):
        self.options = options

    def __enter__(self):
        options = self.options
        command = [options.stampworks, "emulate", "--listen", "127.0.0.1:0"]
        command += ["--hub", f"bench:{options.partitions}", "--fill", str(options.events)]
        command += ["--fill-seed", str(options.seed), "--fill-began", BEGAN]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline().strip()
        if not line.startswith("Endpoint="):
            self.__exit__()
            raise Failed(f"the emulator did not start: {line!r}")
        return line

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def measured(command, environment=None):
    """Runs a command; gives its wall and CPU seconds, its largest resident set, and what it printed."""
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdout=printed, stderr=errors, env={**os.environ, **(environment or {})}
        )
        late = threading.Timer(RUN_SECONDS_MAX, process.kill)
        late.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            text = errors.read().decode(errors="replace")
            raise Failed(f"{' '.join(map(str, command))}: exit {process.returncode} after {wall:.0f} s\n{text}")
        return {
            "wall_s": wall,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * 1024,
            "told": json.loads(printed.read() or b"{}"),
        }


def bench(options, part):
    """One part of `stampworks bench`, which measures itself: its emulator is no part of it."""
    command = [options.stampworks, "bench", "--json", "--only", part, "--transport", "plain"]
    command += ["--events", str(options.events), "--partitions", str(options.partitions), "--seed", str(options.seed)]
    result = subprocess.run(command, capture_output=True, timeout=RUN_SECONDS_MAX, text=True)
    if result.returncode != 0:
        raise Failed(f"{' '.join(command)}: {result.stderr}")
    own = [line for line in json.loads(result.stdout)["measured"] if "peak_memory_bytes" in line]
    (own,) = own
    return {
        "wall_s": own["wall_s"],
        "cpu_s": own["cpu_s"],
        "peak_bytes": own["peak_memory_bytes"],
        "told": {"rows": own["events"]},
    }


class Contestants:
    """Each method is one; its name and what it is compared with are in `TABLES`."""

    def __init__(self, options, input_file, connection_string):
        self.options, self.input, self.hub = options, input_file, connection_string

    def python(self, script, *arguments, **environment):
        """Runs a script; with a folder to write to, counts what it wrote."""
        with tempfile.TemporaryDirectory() as folder:
            command = [self.options.python, "-B", HERE / script, *map(str, arguments)]
            writes = script != "hub_receive.py"
            result = measured(command + [folder] * writes, environment)
            return self.counted(result, folder) if writes else result

    def counted(self, result, folder):
        told = subprocess.run(
            [self.options.python, "-B", HERE / "count.py", folder], capture_output=True, text=True, check=True
        )
        result["told"] |= json.loads(told.stdout)
        result["written_bytes"] = sum(file.stat().st_size for file in Path(folder).iterdir())
        return result

    def stampworks_file(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [self.options.stampworks, "bench", "--input", self.input, "--output", folder]
            return self.counted(measured(command), folder)

    def duckdb_file(self):
        return self.python("file_duckdb.py", self.input)

    def polars_file(self):
        return self.python("file_polars.py", self.input, POLARS_MAX_THREADS="1")

    def stampworks_receive(self):
        return bench(self.options, "receive")

    def azure_rust_receive(self):
        options = self.options
        command = [options.official_client, self.hub, "bench", str(options.partitions), str(options.events)]
        return measured(command)

    def azure_python_receive(self):
        return self.python("hub_receive.py", self.hub, self.options.partitions, self.options.events)

    def stampworks_whole(self):
        return bench(self.options, "whole")

    def azure_python_pyarrow(self):
        return self.python("hub_pyarrow.py", self.hub, self.options.partitions, self.options.events)


# Heading, and contestants with their titles; the first of each is Stampworks.
TABLES = {
    "file": (
        "a file of bodies to validated, sorted Parquet and 1-minute aggregates, one thread",
        {"stampworks_file": "Stampworks", "duckdb_file": "DuckDB", "polars_file": "polars"},
    ),
    "receive": (
        "receiving a hub",
        {
            "stampworks_receive": "Stampworks",
            "azure_rust_receive": "azure_messaging_eventhubs (Rust)",
            "azure_python_receive": "azure-eventhub (Python)",
        },
    ),
    "whole": (
        "a hub to validated, sorted Parquet and 1-minute aggregates",
        {"stampworks_whole": "Stampworks (with commits and rejects)", "azure_python_pyarrow": "azure-eventhub, json, pyarrow"},
    ),
}


def check(name, result, events, rejected):
    """The rows are the expected ones, whoever made them."""
    told = result["told"]
    if name == "stampworks_whole":
        # It ends only when every event is committed; rejects are rows of another table.
        expected = events
    elif "rejected" in told:
        expected = events - rejected
        if told["rejected"] != rejected:
            raise Failed(f"{name}: {told['rejected']} rejected, not {rejected}")
    else:
        expected = events
    if told["rows"] != expected:
        raise Failed(f"{name}: {told['rows']} rows, not {expected}")


def rejected_of(input_file):
    """How many bodies are out of range: all of them have the one temperature that no sensor has."""
    with open(input_file, "rb") as file:
        return sum(b'"temperature":999.00' in line for line in file)


def rotated(names, round_number):
    at = round_number % len(names)
    return names[at:] + names[:at]


def summarize(runs, events):
    def median(key):
        return statistics.median(run[key] for run in runs)

    summary = {
        "events_per_s": events / median("wall_s"),
        "cpu_ns_per_event": median("cpu_s") / events * 1e9,
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "runs": runs,
    }
    if "written_bytes" in runs[0]:
        summary["written_bytes_per_event"] = runs[0]["written_bytes"] / events
    return summary


def print_tables(results, wanted):
    for table in wanted:
        heading, titles = TABLES[table]
        print(f"\n{heading}\n")
        print("| | events/s | CPU ns/event | peak MiB | CPU, times Stampworks |")
        print("|---|---|---|---|---|")
        ours = next(iter(titles))
        for name, title in titles.items():
            if (it := results.get(name)) is None:
                continue
            ratio = "1" if name == ours else f"{it['cpu_ns_per_event'] / results[ours]['cpu_ns_per_event']:.1f}"
            cells = [title, f"{it['events_per_s']:,.0f}", f"{it['cpu_ns_per_event']:,.0f}"]
            print(f"| {' | '.join(cells)} | {it['peak_bytes'] / 2**20:,.0f} | {ratio} |")


def install(python):
    """The peers' packages below target/peers; gives the interpreter."""
    pins = (HERE / "requirements.txt").read_text()
    place = ROOT / "target" / "peers"
    stamp, interpreter = place / "stamp", place / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != pins:
        print(f"installing the peers' packages in {place.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run([python, "-m", "venv", "--clear", place], check=True)
        command = [interpreter, "-m", "pip", "install", "--quiet", "--no-deps", "-r", HERE / "requirements.txt"]
        subprocess.run(command, check=True)
        stamp.write_text(pins)
    return interpreter


def build_official_client():
    folder = HERE / "official-client"
    target = ROOT / "target" / "peers-official-client"
    command = ["cargo", "build", "--release", "--locked", "--target-dir", target]
    print("building the official client, which takes minutes the first time", file=sys.stderr)
    subprocess.run(command, cwd=folder, check=True)
    return target / "release" / "official-client"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000, help="10,000 or more (default 300,000)")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", choices=TABLES, action="append", help="only this one; may be repeated")
    parser.add_argument("--without", choices=[name for _, names in TABLES.values() for name in names], action="append")
    parser.add_argument("--stampworks", help="the binary (default: target/release/stampworks, built when missing)")
    parser.add_argument("--python", help="an interpreter with the packages (default: one in target/peers)")
    parser.add_argument("--official-client", help="the binary (default: built below target)")
    parser.add_argument("--json", metavar="FILE", help="writes everything to this file as well")
    return parser.parse_args()


def main():
    options = arguments()
    wanted = options.table or list(TABLES)
    names = [name for table in wanted for name in TABLES[table][1] if name not in (options.without or [])]
    if options.stampworks is None:
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
        options.stampworks = ROOT / "target" / "release" / "stampworks"
    options.python = options.python or install(sys.executable)
    if "azure_rust_receive" in names and options.official_client is None:
        options.official_client = build_official_client()
    runs = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, Emulator(options) as connection_string:
        input_file = Path(folder) / "input.ndjson"
        command = [options.stampworks, "bench", "--write-input", input_file]
        command += ["--events", str(options.events), "--seed", str(options.seed)]
        subprocess.run(command, check=True)
        rejected = rejected_of(input_file)
        contestants = Contestants(options, input_file, connection_string)
        for round_number in range(options.rounds):
            for name in rotated(names, round_number):
                result = getattr(contestants, name)()
                check(name, result, options.events, rejected)
                runs[name].append(result)
                cpu = result["cpu_s"] / options.events * 1e9
                print(f"round {round_number + 1}: {name} {cpu:,.0f} ns/event", file=sys.stderr)
    rollups = {name: run["told"]["rollup_rows"] for name in runs if name.endswith("_file") for run in runs[name]}
    if len({rows for name, rows in rollups.items() if name != "stampworks_file"}) > 1:
        raise Failed(f"rollup rows differ: {rollups}")
    results = {name: summarize(of, options.events) for name, of in runs.items()}
    print_tables(results, wanted)
    if options.json:
        told = {"events": options.events, "partitions": options.partitions, "seed": options.seed}
        told |= {"rounds": options.rounds, "rejected": rejected, "results": results}
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (Failed, subprocess.SubprocessError, OSError) as error:
        sys.exit(f"run.py: {error}")
