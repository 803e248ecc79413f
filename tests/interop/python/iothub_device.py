"""A device through azure-iot-device, and its operator through azure-iot-hub.

Arguments: service connection string, host name.
"""

import sys
import threading

from azure.iot.device import Message, MethodResponse
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from iothub import answer, device_client, device_string, refused

KEY = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk="
OTHER = "c2Vjb25kYXJ5LXNlY29uZGFyeS1zZWM="


def telemetry(n):
    message = Message(f'{{"n":{n}}}')
    message.message_id = f"m-{n}"
    message.content_type = "application/json"
    message.content_encoding = "utf-8"
    message.custom_properties["site"] = "north & south"
    # The hub's enrichment of this name wins.
    message.custom_properties["tenant"] = "claimed"
    return message


def set_status(manager, status):
    device = manager.get_device("dev-7")
    manager.update_device_with_sas("dev-7", device.etag, KEY, OTHER, status)


def main(connection_string, host):
    manager = IoTHubRegistryManager.from_connection_string(connection_string)
    manager.create_device_with_sas("dev-7", KEY, OTHER, "enabled")
    manager.update_twin(
        "dev-7",
        Twin(tags={"tenant": "acme"}, properties=TwinProperties(desired={"rate": 5})),
        "*",
    )

    client = device_client(device_string(host, "dev-7", KEY))
    lost = threading.Event()
    patches = []
    patched = threading.Event()

    def on_patch(patch):
        patches.append(patch)
        patched.set()

    client.on_connection_state_change = lambda: lost.set() if not client.connected else None
    client.connect()
    client.on_twin_desired_properties_patch_received = on_patch
    client.on_method_request_received = lambda request: client.send_method_response(
        MethodResponse.create_from_method_request(request, 200, {"heard": request.payload})
    )
    for n in range(5):
        client.send_message(telemetry(n))
    twin = client.get_twin()
    client.patch_twin_reported_properties({"firmware": "1.2"})
    manager.update_twin("dev-7", Twin(properties=TwinProperties(desired={"rate": 9})), "*")
    heard = patched.wait(30)
    method = manager.invoke_device_method(
        "dev-7", CloudToDeviceMethod(method_name="reprovision", payload={"why": "move"})
    )
    connected = manager.get_device("dev-7").connection_state

    set_status(manager, "disabled")
    cut = lost.wait(30)
    disabled = refused(client.connect)
    client.shutdown()

    unknown = device_client(device_string(host, "nobody", KEY))
    wrong = device_client(device_string(host, "dev-7", "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc="))
    refusals = {"unknown": refused(unknown.connect), "wrong_key": refused(wrong.connect)}
    unknown.shutdown()
    wrong.shutdown()

    set_status(manager, "enabled")
    back = device_client(device_string(host, "dev-7", OTHER))
    back.connect()
    back.send_message(telemetry(5))
    back.shutdown()
    answer(
        {
            "twin": twin,
            "reported": manager.get_twin("dev-7").properties.reported["firmware"],
            "patch": patches[0] if heard else None,
            "method": {"status": method.status, "payload": method.payload},
            "connected": connected,
            "cut": cut,
            "disabled": disabled,
            **refusals,
        }
    )


main(*sys.argv[1:])
