"""Creates blob containers: create_container.py CONNECTION_STRING NAME..."""

import json
import sys

from azure.storage.blob import BlobServiceClient

connection_string, *names = sys.argv[1:]
service = BlobServiceClient.from_connection_string(connection_string, retry_total=0)
for name in names:
    service.create_container(name)
print(json.dumps({"created": names}))
