// Prints the arguments of some resources of Terraform's azurerm provider, from the published typings of it:
//
//   npm pack @cdktf/provider-azurerm@14.23.1 && tar xzf cdktf-provider-azurerm-14.23.1.tgz
//   node tests/interop/scripts/azurerm.cjs package azurerm_iothub azurerm_eventhub ... > tests/interop/azurerm.json
//
// The package is too large to install for every test run: what it says of the resources in deploy/azure is kept.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const [folder, ...resources] = process.argv.slice(2);
// What Terraform itself knows of every resource, and timeouts, which every one has.
const LEFT_OUT = new Set(["timeouts", "id"]);

const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function interfaces(text) {
  const found = new Map();
  const pattern = /export interface (\w+)( extends [\w.]+)? \{\n([\s\S]*?)\n\}/g;
  for (const [, name, , body] of text.matchAll(pattern)) {
    const plain = body.replace(/\/\*\*[\s\S]*?\*\//g, "");
    const members = [...plain.matchAll(/readonly (\w+)(\?)?: (.*)/g)];
    found.set(name, members.map(([, member, optional, type]) => ({ member, required: !optional, type })));
  }
  return found;
}

function block(all, name) {
  const members = {};
  for (const { member, required, type } of all.get(name)) {
    if (LEFT_OUT.has(member)) continue;
    const inner = [...all.keys()].find((known) => new RegExp(`\\b${known}\\b`).test(type));
    members[snake(member)] = inner ? { required, block: block(all, inner) } : { required };
  }
  return members;
}

const printed = {};
for (const resource of resources) {
  const name = resource.replace(/^azurerm_/, "").replaceAll("_", "-");
  const text = fs.readFileSync(path.join(folder, "lib", name, "index.d.ts"), "utf8");
  const all = interfaces(text);
  const top = [...all.keys()].find((known) => known.endsWith("Config"));
  printed[resource] = block(all, top);
}
console.log(JSON.stringify(printed, null, 1));
