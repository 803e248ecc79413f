"""What the IoT Hub scripts share."""

import json
import os

from azure.iot.device import IoTHubDeviceClient


def ca_text():
    with open(os.environ["REQUESTS_CA_BUNDLE"], encoding="ascii") as file:
        return file.read()


def device_client(connection_string):
    """A client with its own retries off: what the hub says is what the script reports."""
    return IoTHubDeviceClient.create_from_connection_string(
        connection_string,
        server_verification_cert=ca_text(),
        connection_retry=False,
        auto_connect=False,
    )


def device_string(host, device_id, key):
    return f"HostName={host};DeviceId={device_id};SharedAccessKey={key}"


def refused(call, *arguments, **named):
    """The name, status and text of what a call raises; fails when it raises nothing."""
    try:
        call(*arguments, **named)
    except Exception as error:  # noqa: BLE001 - whatever the client raises is the answer
        response = getattr(error, "response", None)
        return {
            "type": type(error).__name__,
            "status": getattr(response, "status_code", None),
            "retry_after": response.headers.get("Retry-After") if response is not None else None,
            "text": getattr(response, "text", None) or str(error),
        }
    raise AssertionError(f"{call} was not refused")


def answer(value):
    print(json.dumps(value))
