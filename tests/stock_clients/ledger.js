// What a writer was told, and what it tells the test: a line per hundred acknowledged writes, and at
// the end one in JSON. It ends when its standard input does.
"use strict";

const ledger = { acked: [], errors: {}, last: null, longest: 0, over: false };

process.stdin.resume();
process.stdin.on("end", () => (ledger.over = true));

ledger.ok = (key) => {
  const now = performance.now();
  if (ledger.last !== null) ledger.longest = Math.max(ledger.longest, now - ledger.last);
  ledger.last = now;
  ledger.acked.push(key);
  if (ledger.acked.length % 100 === 0) console.log("acked", ledger.acked.length);
};

ledger.failed = (error) => {
  // node-redis tells of its inner clients in objects of its own.
  const cause = error.error ?? error;
  const name = `${cause.name ?? cause.type ?? cause}: ${String(cause.message ?? "").slice(0, 60)}`;
  ledger.errors[name] = (ledger.errors[name] ?? 0) + 1;
};

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const again = async (work) => {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      ledger.failed(error);
      await pause(5);
    }
  }
};

// Writes until it is over, then reads everything back.
ledger.run = async (prefix, set, get) => {
  for (let number = 0; !ledger.over; number++) {
    const key = `${prefix}:${number}`;
    await again(() => set(key, key));
    ledger.ok(key);
    await pause(1);
  }
  const lost = [];
  for (const key of ledger.acked) if ((await again(() => get(key))) !== key) lost.push(key);
  const { acked, longest, errors } = ledger;
  const said = { acked: acked.length, lost, longest_gap_ms: Math.round(longest), errors };
  process.stdout.write(JSON.stringify(said) + "\n", () => process.exit(0));
};

const [name, addresses] = process.argv.slice(2);
const nodes = addresses.split(",").map((address) => {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at), port: Number(address.slice(at + 1)) };
});

module.exports = { ledger, name, nodes };
