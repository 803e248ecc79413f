// Owner levels: a higher one displaces the reader, a lower one is refused.
// Arguments: connection string.
"use strict";

const { EventHubConsumerClient, earliestEventPosition } = require("@azure/event-hubs");
const { answer, fail, options, receive } = require("./eventhubs.cjs");

async function main(connectionString) {
  const first = new EventHubConsumerClient("$Default", connectionString, options);
  const errors = [];
  let reading;
  let displaced;
  const isReading = new Promise((resolve) => (reading = resolve));
  const isDisplaced = new Promise((resolve) => (displaced = resolve));
  const subscription = first.subscribe(
    "0",
    {
      processEvents: async (batch) => {
        if (batch.length > 0) reading();
      },
      processError: async (error) => {
        errors.push({ code: error.code ?? error.name, text: error.message });
        displaced();
      },
    },
    { startPosition: earliestEventPosition, ownerLevel: 1, maxWaitTimeInSeconds: 1 },
  );
  await isReading;
  const lower = await receive(connectionString, "0", 1, earliestEventPosition, { ownerLevel: 0 });
  const higher = await receive(connectionString, "0", 5, earliestEventPosition, { ownerLevel: 2 });
  await isDisplaced;
  await subscription.close();
  await first.close();
  answer({
    firstErrors: errors,
    lower: { events: lower.events.length, errors: lower.errors },
    higher: { events: higher.events.length, errors: higher.errors },
  });
}

main(...process.argv.slice(2)).catch(fail);
