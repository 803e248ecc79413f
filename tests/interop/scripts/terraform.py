"""Prints the local values of Terraform's configuration in a folder, and what is wrong with it.

terraform.py ARGUMENTS FOLDER

ARGUMENTS is azurerm.json: which arguments each resource has and needs (azurerm.cjs made it).
"""

import json
import pathlib
import re
import sys

import hcl2

# What Terraform itself takes in every resource, and in every module.
META = {"for_each", "count", "depends_on", "lifecycle", "provider", "provisioner", "dynamic"}
MODULE = {"for_each", "count", "depends_on", "providers", "source", "version"}
known = json.load(open(sys.argv[1], encoding="utf-8"))
folder = pathlib.Path(sys.argv[2])
errors = []


def plain(value):
    """Without the marks of the reader, and texts without their quotes."""
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items() if not k.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def read(at):
    """Every block of a folder, by its kind."""
    blocks = {}
    for path in sorted(at.glob("*.tf")):
        for kind, items in plain(hcl2.loads(path.read_text(encoding="utf-8"))).items():
            blocks.setdefault(kind, []).extend(items)
    return blocks


def check(place, given, members):
    inside = {name: block for name, block in given.items() if name not in META}
    for dynamic in given.get("dynamic", []):
        for name, block in dynamic.items():
            inside[name] = block["content"]
    for name, value in inside.items():
        if name not in members:
            errors.append(f"{place}: azurerm has no argument {name}")
        elif "block" in members[name] and isinstance(value, list):
            for block in value:
                check(f"{place}.{name}", block, members[name]["block"])
    for name, member in members.items():
        if member["required"] and name not in inside:
            errors.append(f"{place}: {name} is missing")


def texts(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


blocks = read(folder)
variables = {name: block for item in blocks.get("variable", []) for name, block in item.items()}
names = {f"var.{name}" for name in variables}
names |= {f"local.{name}" for item in blocks.get("locals", []) for name in item}
names |= {f"module.{name}" for item in blocks.get("module", []) for name in item}
for item in blocks.get("resource", []):
    for kind, resources in item.items():
        for name, block in resources.items():
            names.add(f"{kind}.{name}")
            if kind in known:
                check(f"{kind}.{name}", block, known[kind])
            else:
                errors.append(f"{kind} is not in azurerm.json")
for text in texts(blocks):
    # Descriptions are sentences, sources are paths; everything else that names something has `${`.
    for code in re.findall(r"\$\{(.*)\}", text, re.DOTALL):
        for name in re.findall(r"\b((?:var|local|module|azurerm_\w+)\.\w+)", code):
            if name not in names:
                errors.append(f"{name} is used and is nowhere")
for item in blocks.get("module", []):
    for name, block in item.items():
        asked = read(folder / block["source"]).get("variable", [])
        asked = {key: settings for item in asked for key, settings in item.items()}
        given = set(block) - MODULE
        errors += [f"module.{name}: {key} is no variable of it" for key in sorted(given - set(asked))]
        needed = {key for key, settings in asked.items() if "default" not in settings}
        errors += [f"module.{name}: {key} is missing" for key in sorted(needed - given)]
values = {name: value for item in blocks.get("locals", []) for name, value in item.items()}
print(json.dumps({"locals": values, "errors": errors}))
