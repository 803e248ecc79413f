// Enrolments and groups through azure-iot-provisioning-service.
// Arguments: service connection string, a linked hub's host name.
"use strict";

const { ProvisioningServiceClient } = require("azure-iot-provisioning-service");

const { answer, fail } = require("./eventhubs.cjs");

const attestation = { type: "symmetricKey" };

function refused(call) {
  return call.then(
    () => {
      throw new Error("it was not refused");
    },
    (error) => [error.name, error.response.statusCode],
  );
}

async function all(query) {
  const pages = [];
  while (query.hasMoreResults) {
    const page = (await query.next(query.continuationToken)).responseBody;
    pages.push(page.map((item) => item.registrationId ?? item.enrollmentGroupId));
  }
  return pages;
}

// By callback: the promise of this client's bulk operation never settles.
function bulkCreate(client, ids) {
  const enrollments = ids.map((registrationId) => ({ registrationId, attestation }));
  return new Promise((resolve, reject) => {
    client.runBulkEnrollmentOperation({ mode: "create", enrollments }, (error, result) =>
      error ? reject(error) : resolve(result),
    );
  });
}

async function main(connectionString, hub) {
  const client = ProvisioningServiceClient.fromConnectionString(connectionString);
  const put = async (enrollment) =>
    (await client.createOrUpdateIndividualEnrollment(enrollment)).responseBody;
  const one = await put({
    registrationId: "pump-1",
    deviceId: "Pump-One",
    attestation,
    iotHubs: [hub],
    allocationPolicy: "static",
    initialTwin: { tags: { tenant: "acme" }, properties: { desired: { rate: 5 } } },
  });
  const updated = await put({ ...one, provisioningStatus: "disabled" });
  const stale = await refused(put(one));
  const group = await client.createOrUpdateEnrollmentGroup({
    enrollmentGroupId: "fleet",
    attestation,
    provisioningStatus: "enabled",
  });
  const keys = (await client.getEnrollmentGroupAttestationMechanism("fleet")).responseBody;
  const bulk = await bulkCreate(client, ["a", "b", "c", "pump-1"]);
  const pages = await all(
    client.createIndividualEnrollmentQuery({ query: "SELECT * FROM enrollments" }, 3),
  );
  const groups = await all(
    client.createEnrollmentGroupQuery({ query: "SELECT * FROM enrollmentGroups" }, 3),
  );
  const bad = await refused(put({ registrationId: "x", attestation, iotHubs: [hub] }));
  await client.deleteIndividualEnrollment("a");
  const missing = await refused(client.getIndividualEnrollment("a"));
  answer({
    status: [one.provisioningStatus, updated.provisioningStatus],
    device: updated.deviceId,
    twin: updated.initialTwin.properties.desired.rate,
    stale,
    group: group.responseBody.enrollmentGroupId,
    key: keys.symmetricKey.primaryKey.length,
    bulk: [bulk.isSuccessful, bulk.errors.map((error) => [error.registrationId, error.errorCode])],
    pages,
    groups,
    bad,
    missing,
  });
}

main(...process.argv.slice(2)).catch(fail);
