// What the Event Hubs scripts share.
"use strict";

const { EventHubConsumerClient } = require("@azure/event-hubs");

// No retries: what the emulator says is what the script reports.
const options = { retryOptions: { maxRetries: 0 } };

function eventFields(event) {
  return {
    sequence: event.sequenceNumber,
    offset: event.offset,
    enqueuedMs: event.enqueuedTimeUtc.getTime(),
    partitionKey: event.partitionKey ?? null,
    body: event.body,
    properties: event.properties ?? {},
    system: Object.fromEntries(
      Object.entries(event.systemProperties ?? {}).map(([key, value]) => [
        key,
        value instanceof Date ? value.getTime() : value,
      ]),
    ),
  };
}

// Receives `count` events of a partition, or what came until an error or `waitMs`.
async function receive(connectionString, partition, count, startPosition, more = {}) {
  const client = new EventHubConsumerClient("$Default", connectionString, options);
  const events = [];
  const errors = [];
  let subscription;
  await new Promise((resolve) => {
    const limit = setTimeout(resolve, more.waitMs ?? 60_000);
    const finish = () => {
      clearTimeout(limit);
      resolve();
    };
    subscription = client.subscribe(
      partition,
      {
        processEvents: async (batch) => {
          events.push(...batch.map(eventFields));
          if (events.length >= count) finish();
        },
        processError: async (error) => {
          errors.push({ code: error.code ?? error.name, text: error.message });
          finish();
        },
      },
      { startPosition, maxBatchSize: 10, maxWaitTimeInSeconds: 1, ownerLevel: more.ownerLevel },
    );
  });
  await subscription.close();
  await client.close();
  return { events, errors };
}

function answer(value) {
  console.log(JSON.stringify(value));
}

function fail(error) {
  console.error(error);
  process.exitCode = 1;
}

module.exports = { answer, eventFields, fail, options, receive };
