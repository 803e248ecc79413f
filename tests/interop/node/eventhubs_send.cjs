// Sends in every way the client knows and reads the hub's properties.
// Arguments: connection string.
"use strict";

const { EventHubProducerClient } = require("@azure/event-hubs");
const { answer, fail, options } = require("./eventhubs.cjs");

async function refused(act) {
  try {
    await act();
    return null;
  } catch (error) {
    return { code: error.code ?? error.name, text: error.message };
  }
}

async function main(connectionString) {
  const producer = new EventHubProducerClient(connectionString, options);
  const hub = await producer.getEventHubProperties();
  const empty = await producer.getPartitionProperties("2");

  const batch = await producer.createBatch({ partitionId: "2" });
  for (let n = 0; n < 60; n += 1) {
    batch.tryAdd({ body: { n }, properties: { kind: "batched", n }, messageId: `m-${n}` });
  }
  await producer.sendBatch(batch);
  await producer.sendBatch([{ body: "x".repeat(700_000) }], { partitionId: "2" });
  for (const partitionKey of ["device-a", "device-b", "device-c"]) {
    await producer.sendBatch([{ body: "first" }, { body: "second" }], { partitionKey });
  }
  const filled = await producer.getPartitionProperties("2");
  const unknownPartition = await refused(() =>
    producer.sendBatch([{ body: "x" }], { partitionId: "99" }),
  );
  await producer.close();

  const missing = new EventHubProducerClient(
    connectionString.replace("EntityPath=telemetry", "EntityPath=missing"),
    options,
  );
  const noHub = await refused(() => missing.sendBatch([{ body: "x" }]));
  await missing.close();

  answer({
    name: hub.name,
    createdMs: hub.createdOn.getTime(),
    partitions: hub.partitionIds,
    empty: empty.isEmpty,
    lastBefore: empty.lastEnqueuedSequenceNumber,
    lastAfter: filled.lastEnqueuedSequenceNumber,
    beginAfter: filled.beginningSequenceNumber,
    unknownPartition,
    noHub,
  });
}

main(...process.argv.slice(2)).catch(fail);
