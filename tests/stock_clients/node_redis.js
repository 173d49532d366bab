"use strict";
const { ledger, name, nodes } = require("./ledger.js");
const { createSentinel } = require("redis");

async function main() {
  // docs/clients.md
  const sentinel = createSentinel({ name, sentinelRootNodes: nodes });
  sentinel.on("error", ledger.failed);
  await sentinel.connect();
  await ledger.run(
    "node-redis",
    (key, value) => sentinel.set(key, value),
    (key) => sentinel.get(key),
  );
}

main();
