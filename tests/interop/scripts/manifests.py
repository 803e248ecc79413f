"""Prints the objects of a file of YAML, and what the schemas of Kubernetes say against them.

manifests.py VERSION FILE
"""

import json
import sys

import kubernetes_validate
import yaml

version, path = sys.argv[1:]
objects = [item for item in yaml.safe_load_all(open(path, encoding="utf-8")) if item]
errors = []
for item in objects:
    # Kinds of its own extensions are unknown to Kubernetes; keda.cjs looks at KEDA's.
    if item["apiVersion"].startswith("keda.sh/"):
        continue
    name = f"{item['kind']}/{item['metadata']['name']}"
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        errors.append(f"{name}: {'/'.join(map(str, error.path))}: {error.message}")
    except kubernetes_validate.SchemaNotFoundError as error:
        errors.append(f"{name}: {error}")
print(json.dumps({"objects": objects, "errors": errors}))
