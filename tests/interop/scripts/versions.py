"""Prints the version of each package named as an argument, as one JSON object."""

import json
import sys
from importlib.metadata import version

print("a line before the answer")
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
