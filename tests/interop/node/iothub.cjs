// Registry and a device over MQTT through azure-iothub and azure-iot-device.
// Arguments: service connection string, host name.
"use strict";

const { Registry } = require("azure-iothub");
const { Client, Message } = require("azure-iot-device");
const { Mqtt } = require("azure-iot-device-mqtt");
const { NoRetry } = require("azure-iot-common");

const { answer, fail } = require("./eventhubs.cjs");

const KEY = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=";
const OTHER = "c2Vjb25kYXJ5LXNlY29uZGFyeS1zZWM=";

const authentication = {
  type: "sas",
  symmetricKey: { primaryKey: KEY, secondaryKey: OTHER },
};

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return error.name;
  }
  throw new Error("it was not refused");
}

function device(host, id, key) {
  const client = Client.fromConnectionString(
    `HostName=${host};DeviceId=${id};SharedAccessKey=${key}`,
    Mqtt,
  );
  client.setRetryPolicy(new NoRetry());
  return client;
}

function telemetry(n) {
  const message = new Message(JSON.stringify({ n }));
  message.messageId = `m-${n}`;
  message.contentType = "application/json";
  message.contentEncoding = "utf-8";
  message.properties.add("site", "west");
  return message;
}

async function twins(client, registry) {
  const twin = await client.getTwin();
  const desired = { ...twin.properties.desired };
  delete desired.$version;
  const heard = new Promise((resolve) => {
    twin.on("properties.desired", (delta) => {
      if (delta.rate === 8) resolve(delta.rate);
    });
  });
  await new Promise((resolve, reject) => {
    twin.properties.reported.update({ firmware: "2.0" }, (error) => (error ? reject(error) : resolve()));
  });
  const service = (await registry.getTwin("node-1")).responseBody;
  await service.update({ properties: { desired: { rate: 8 } } });
  return { desired: desired.rate ?? null, heard: await heard, reported: service.properties.reported.firmware };
}

async function main(connectionString, host) {
  const registry = Registry.fromConnectionString(connectionString);
  const created = (await registry.create({ deviceId: "node-1", status: "enabled", authentication })).responseBody;
  const exists = await refused(registry.create({ deviceId: "node-1" }));
  const missing = await refused(registry.get("nobody"));
  const twin = (await registry.getTwin("node-1")).responseBody;
  await twin.update({ tags: { tenant: "acme" }, properties: { desired: { rate: 3 } } });
  const bulk = await registry.addDevices([
    { deviceId: "bulk-1", authentication },
    { deviceId: "bulk-2", authentication },
  ]);
  const query = registry.createQuery("SELECT * FROM devices", 2);
  const pages = [];
  while (query.hasMoreResults) {
    const page = await query.nextAsTwin();
    pages.push(page.result.map((item) => item.deviceId));
  }

  const first = device(host, "node-1", KEY);
  await first.open();
  await first.sendEvent(telemetry(0));
  const twinResult = await twins(first, registry);
  // A second connection of the same device takes the first one's place.
  const displaced = new Promise((resolve) => first.on("disconnect", () => resolve(true)));
  const second = device(host, "node-1", OTHER);
  await second.open();
  const lost = await displaced;
  await second.sendEvent(telemetry(1));
  await second.close();
  const unknown = await refused(device(host, "nobody", KEY).open());
  await registry.delete("bulk-1");
  const statistics = (await registry.getRegistryStatistics()).responseBody;
  answer({
    created: created.status,
    exists,
    missing,
    bulk: bulk.responseBody.isSuccessful,
    pages,
    ...twinResult,
    lost,
    unknown,
    total: statistics.totalDeviceCount,
  });
}

main(...process.argv.slice(2)).then(() => process.exit(process.exitCode ?? 0), fail);
