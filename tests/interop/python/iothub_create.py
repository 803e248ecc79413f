"""Registers a device, or says why not. Arguments: connection string, device id."""

import sys

from azure.iot.hub import IoTHubRegistryManager
from iothub import answer
from msrest.exceptions import HttpOperationError

KEY = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk="


def main(connection_string, device_id):
    manager = IoTHubRegistryManager.from_connection_string(connection_string)
    try:
        device = manager.create_device_with_sas(device_id, KEY, KEY, "enabled")
        answer({"status": device.status})
    except HttpOperationError as error:
        response = error.response
        answer({"error": {"status": response.status_code, "text": response.text}})


main(*sys.argv[1:])
