"use strict";
const { ledger, name, nodes } = require("./ledger.js");
const { Redis } = require("ioredis");

// docs/clients.md
const redis = new Redis({
  sentinels: nodes,
  name,
  failoverDetector: true,
  reconnectOnError: (error) => (error.message.startsWith("READONLY") ? 2 : false),
});
redis.on("error", ledger.failed);

ledger.run("ioredis", (key, value) => redis.set(key, value), (key) => redis.get(key));
