// Receives a partition from a sequence number, inclusive.
// Arguments: connection string, partition, count, sequence number.
"use strict";

const { answer, fail, receive } = require("./eventhubs.cjs");

async function main(connectionString, partition, count, sequence) {
  const start = { sequenceNumber: Number(sequence), isInclusive: true };
  answer(await receive(connectionString, partition, Number(count), start));
}

main(...process.argv.slice(2)).catch(fail);
