// Prints what KEDA's schemas say against one object, given as JSON.
//
// The validators are made from KEDA's own definitions and let unknown fields pass, as the API server does after
// dropping them. They look at every field that they know, so a field that was never looked at is unknown.
"use strict";

const path = require("node:path");

const unknown = new Set();

function watched(value, at) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((item, index) => watched(item, `${at}/${index}`));
  const inner = Object.entries(value).map(([key, item]) => [key, watched(item, `${at}/${key}`)]);
  inner.forEach(([key]) => unknown.add(`${at}/${key}`));
  return new Proxy(Object.fromEntries(inner), {
    get(target, key) {
      if (typeof key === "string") unknown.delete(`${at}/${key}`);
      return target[key];
    },
  });
}

const object = JSON.parse(process.argv[2]);
const name = `${object.kind}/${object.metadata.name}`;
const keda = require.resolve("@kubernetes-models/keda/keda.sh/v1alpha1");
// The model copies what it is given; the validator below it looks at the object itself.
const schema = path.join(keda, "../../../_schemas", `KedaShV1alpha1${object.kind}.js`);
const { validate } = require(schema);
const errors = [];
if (!validate(watched(object, ""))) {
  errors.push(...validate.errors.map((error) => `${name}: ${error.instancePath}: ${JSON.stringify(error.params)}`));
}
errors.push(...[...unknown].map((field) => `${name}: ${field} is no field of KEDA's`));
console.log(JSON.stringify(errors));
