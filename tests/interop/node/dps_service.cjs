// Enrolments and groups through azure-iot-provisioning-service.
// Arguments: service connection string, a linked hub's host name.
"use strict";

const { ProvisioningServiceClient } = require("azure-iot-provisioning-service");

const { answer, fail } = require("./eventhubs.cjs");

const symmetric = { type: "symmetricKey" };

function refused(call) {
  return call.then(
    () => {
      throw new Error("it was not refused");
    },
    (error) => error.name,
  );
}

async function all(query) {
  const pages = [];
  while (query.hasMoreResults) {
    const page = await query.next();
    pages.push(page.result.map((item) => item.registrationId ?? item.enrollmentGroupId));
  }
  return pages;
}

// By callback: this client's promise never settles.
function bulkCreate(client, ids) {
  const enrollments = ids.map((registrationId) => ({ registrationId, attestation: symmetric }));
  return new Promise((resolve, reject) => {
    client.runBulkEnrollmentOperation({ mode: "create", enrollments }, (error, result) =>
      error ? reject(error) : resolve(result),
    );
  });
}

async function main(connectionString, hub) {
  const client = ProvisioningServiceClient.fromConnectionString(connectionString);
  const one = (
    await client.createOrUpdateIndividualEnrollment({
      registrationId: "pump-1",
      deviceId: "Pump-One",
      attestation: symmetric,
      iotHubs: [hub],
      allocationPolicy: "static",
      initialTwin: { tags: { tenant: "acme" }, properties: { desired: { rate: 5 } } },
    })
  ).responseBody;
  const updated = (
    await client.createOrUpdateIndividualEnrollment({ ...one, provisioningStatus: "disabled" })
  ).responseBody;
  const stale = await refused(client.createOrUpdateIndividualEnrollment(one));
  const group = (
    await client.createOrUpdateEnrollmentGroup({
      enrollmentGroupId: "fleet",
      attestation: symmetric,
      provisioningStatus: "enabled",
    })
  ).responseBody;
  const keys = (await client.getEnrollmentGroupAttestationMechanism("fleet")).responseBody;
  const bulk = await bulkCreate(client, ["a", "b", "c", "pump-1"]);
  const pages = [];
  while (query.hasMoreResults) {
    const page = await query.next();
    pages.push(page.result.map((item) => item.registrationId ?? item.enrollmentGroupId));
  }
  return pages;
}

// By callback: this client's promise never settles.
function bulkCreate(client, ids) {
  const enrollments = ids.map((registrationId) => ({ registrationId, attestation: symmetric }));
  return new Promise((resolve, reject) => {
    client.runBulkEnrollmentOperation({ mode: "create", enrollments }, (error, result) =>
      error ? reject(error) : resolve(result),
    );
  });
}

async function main(connectionString, hub) {
  const client = ProvisioningServiceClient.fromConnectionString(connectionString);
  const one = (
    await client.createOrUpdateIndividualEnrollment({
      registrationId: "pump-1",
      deviceId: "Pump-One",
      attestation: symmetric,
      iotHubs: [hub],
      allocationPolicy: "static",
      initialTwin: { tags: { tenant: "acme" }, properties: { desired: { rate: 5 } } },
    })
  ).responseBody;
  const updated = (
    await client.createOrUpdateIndividualEnrollment({ ...one, provisioningStatus: "disabled" })
  ).responseBody;
  const stale = await refused(client.createOrUpdateIndividualEnrollment(one));
  const group = (
    await client.createOrUpdateEnrollmentGroup({
      enrollmentGroupId: "fleet",
      attestation: symmetric,
      provisioningStatus: "enabled",
    })
  ).responseBody;
  const keys = (await client.getEnrollmentGroupAttestationMechanism("fleet")).responseBody;
  const bulk = (
    await client.runBulkEnrollmentOperation({
      mode: "create",
      enrollments: ["a", "b", "c", "pump-1"].map((registrationId) => ({
        registrationId,
        attestation: symmetric,
      })),
    })
  ).responseBody;
  const pages = await all(
    client.createIndividualEnrollmentQuery({ query: "SELECT * FROM enrollments" }, 3),
  );
  const groups = await all(
    client.createEnrollmentGroupQuery({ query: "SELECT * FROM enrollmentGroups" }, 3),
  );
  const bad = await refused(
    client.createOrUpdateIndividualEnrollment({ registrationId: "x", attestation: symmetric, iotHubs: [hub] }),
  );
  await client.deleteIndividualEnrollment("a");
  const missing = await refused(client.getIndividualEnrollment("a"));
  answer({
    status: [one.provisioningStatus, updated.provisioningStatus],
    device: updated.deviceId,
    twin: updated.initialTwin.properties.desired.rate,
    stale,
    group: group.enrollmentGroupId,
    key: keys.symmetricKey.primaryKey.length,
    bulk: [bulk.isSuccessful, bulk.errors.map((error) => [error.registrationId, error.errorCode])],
    pages,
    groups,
    bad,
    missing,
  });
}

main(...process.argv.slice(2)).catch(fail);
