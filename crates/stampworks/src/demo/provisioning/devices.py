"""The devices of `stampworks demo --provisioning`: the published client, azure-iot-device, unchanged.

Reads one JSON object from its arguments: the DPS host and id scope, the certificate to trust, how
often a device sends, and the devices with their keys. Each device registers at DPS, connects to the
hub that it is told, and sends its readings, numbered from 0. A number is used again until the hub
has confirmed it. A device that is refused, or loses its connection, registers again. Writes a line
of JSON for each step; ends when its standard input does.
"""

import json
import random
import sys
import threading

from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient

settings = json.loads(sys.argv[1])
with open(settings["ca"], encoding="ascii") as file:
    CA = file.read()
stopped = threading.Event()
printing = threading.Lock()


def tell(**said):
    with printing:
        print(json.dumps(said), flush=True)


def register(name, key):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=settings["dps"],
        registration_id=name,
        id_scope=settings["scope"],
        symmetric_key=key,
        server_verification_cert=CA,
    )
    result = client.register()
    if result.status != "assigned":
        raise RuntimeError(f"DPS says {result.status}")
    return result.registration_state.assigned_hub


def connect(hub, name, key):
    client = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={hub};DeviceId={name};SharedAccessKey={key}",
        server_verification_cert=CA,
        connection_retry=False,
        auto_connect=False,
    )
    client.connect()
    return client


class Device:
    def __init__(self, name, key):
        self.name, self.key = name, key
        self.number = 0
        self.hub = None
        self.client = None

    def refused(self, step, error):
        cause = error.__cause__ or error
        tell(device=self.name, step=step, hub=self.hub, error=f"{type(cause).__name__}: {cause}")
        self.close()

    def close(self):
        client, self.client = self.client, None
        if client is None:
            return
        try:
            client.shutdown()
        except Exception:  # noqa: BLE001 - the client says so when its connection is gone already
            pass

    def step(self):
        """Registers, connects or sends; whatever is next."""
        if self.hub is None:
            self.hub = register(self.name, self.key)
            tell(device=self.name, step="registered", hub=self.hub)
        elif self.client is None:
            self.client = connect(self.hub, self.name, self.key)
            tell(device=self.name, step="connected", hub=self.hub)
        else:
            body = json.dumps({"n": self.number, "level": random.uniform(2.0, 3.0)})
            self.client.send_message(Message(body, content_encoding="utf-8", content_type="application/json"))
            tell(device=self.name, step="sent", hub=self.hub, n=self.number)
            self.number += 1

    def run(self):
        while not stopped.is_set():
            try:
                step = "register" if self.hub is None else "connect" if self.client is None else "send"
                self.step()
                pause = settings["pause_s"]
            except Exception as error:  # noqa: BLE001 - whatever the client raises is told, and it goes on
                self.refused(step, error)
                # A refused connection is the hub's word that the device belongs somewhere else.
                if step == "connect":
                    self.hub = None
                pause = 1.0
            stopped.wait(pause * random.uniform(0.5, 1.5))
        self.close()


threads = [threading.Thread(target=Device(*device).run) for device in settings["devices"]]
for thread in threads:
    thread.start()
sys.stdin.read()
stopped.set()
for thread in threads:
    thread.join()
tell(step="ended")
