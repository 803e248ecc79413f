// Devices that ask DPS for their hub: azure-iot-provisioning-device over HTTP and MQTT.
// Arguments: DPS host, id scope, then transport, registration id and key of each device.
"use strict";

const { ProvisioningDeviceClient } = require("azure-iot-provisioning-device");
const { Http } = require("azure-iot-provisioning-device-http");
const { Mqtt } = require("azure-iot-provisioning-device-mqtt");
const { SymmetricKeySecurityClient } = require("azure-iot-security-symmetric-key");

const { answer, fail } = require("./eventhubs.cjs");

async function register(host, scope, transport, id, key) {
  const client = ProvisioningDeviceClient.create(
    host,
    scope,
    transport === "http" ? new Http() : new Mqtt(),
    new SymmetricKeySecurityClient(id, key),
  );
  client.setProvisioningPayload({ firmware: "1.2" });
  try {
    const state = await client.register();
    return { hub: state.assignedHub, device: state.deviceId, payload: state.payload ?? null };
  } catch (error) {
    return { error: error.name };
  }
}

async function main(host, scope, ...devices) {
  const said = [];
  for (let i = 0; i < devices.length; i += 3) {
    said.push(await register(host, scope, ...devices.slice(i, i + 3)));
  }
  answer(said);
}

main(...process.argv.slice(2)).then(() => process.exit(process.exitCode ?? 0), fail);
