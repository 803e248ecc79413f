"""Devices that ask DPS for their hub over MQTT, then send to it: azure-iot-device.

Arguments: DPS host, id scope, then registration id and key of each device.
"""

import sys

from azure.iot.device import Message, ProvisioningDeviceClient
from iothub import answer, ca_text, device_client, device_string


def register(host, scope, registration_id, key):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=host,
        registration_id=registration_id,
        id_scope=scope,
        symmetric_key=key,
        server_verification_cert=ca_text(),
    )
    client.provisioning_payload = {"firmware": "1.2"}
    try:
        result = client.register()
    except Exception as error:  # noqa: BLE001 - whatever the client raises is the answer
        cause = error.__cause__
        return {"error": type(error).__name__, "text": f"{error} {cause}"}
    state = result.registration_state
    said = {
        "status": result.status,
        "hub": state.assigned_hub,
        "device": state.device_id,
        "substatus": state.sub_status,
        "payload": state.response_payload,
    }
    if result.status == "assigned":
        device = device_client(device_string(state.assigned_hub, state.device_id, key))
        device.connect()
        device.send_message(Message(f'{{"from":"{registration_id}"}}'))
        device.shutdown()
    return said


def main(host, scope, *devices):
    pairs = zip(devices[::2], devices[1::2])
    answer([register(host, scope, registration_id, key) for registration_id, key in pairs])


main(*sys.argv[1:])
