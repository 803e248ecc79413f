// Prints the version of each package named as an argument, as one JSON object.
const { readFileSync } = require("node:fs");
const { dirname, join } = require("node:path");

// Not every package exports its package.json: look for it above the package's entry.
function version(name) {
  let folder = dirname(require.resolve(name));
  for (;;) {
    try {
      const found = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      if (found.name === name) return found.version;
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
    if (folder === dirname(folder)) throw new Error(`no package.json of ${name}`);
    folder = dirname(folder);
  }
}

const versions = {};
for (const name of process.argv.slice(2)) versions[name] = version(name);
console.log(JSON.stringify(versions));
