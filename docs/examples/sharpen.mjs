// A foreign stage that makes scores surer, for Node.js with the packages zeromq and @msgpack/msgpack.
// node sharpen.mjs NAME UPSTREAM OWN    (node sharpen.mjs sharpen tcp://127.0.0.1:7100 tcp://127.0.0.1:7101)
import { createRequire } from "node:module";
const require = createRequire(process.cwd() + "/");
const { Dealer, Router } = require("zeromq");
const msgpack = require("@msgpack/msgpack");

const [name, upstream, own] = process.argv.slice(2);
const epoch = BigInt(Date.now()) * 1000n; // greater than at any earlier start
const pack = (map) => msgpack.encode(map, { useBigInt64: true });
const unpack = (bytes) => msgpack.decode(bytes, { useBigInt64: true });
const left = new Dealer({ routingId: `${name}/0/${epoch}`, linger: 0 });
const right = new Router({ mandatory: true, handover: true, linger: 0 });
left.connect(upstream);
await right.bind(own);

let met = 0n, newest = 0n, received = 0; // epochs of the sender: that said hello, newest seen; chunks since its hello
let receiver = { identity: "", epoch: 0n }, sent = 0, limit = 0; // the next stage, chunks given to it, how many it takes
let heard = Date.now(), announced = Promise.resolve();
const waiting = [];

function work(header, frames) {
  const spec = header.fields.segmentation;
  if (header.kind !== "chunk" || !spec || header.fields.error) return;
  const bytes = Uint8Array.from(frames[spec.frame]); // a copy, aligned
  const scores = new Float32Array(bytes.buffer);
  frames[spec.frame] = bytes;
  scores.forEach((score, i) => { scores[i] = Math.min(1, 1.1 * score); });
}

function announce() {
  if (Date.now() - heard > 1000) { // ask to count anew: what a cut connection lost must not take up room
    met = 0n, received = 0, heard = Date.now();
  }
  const room = { v: 1, kind: "room", replica: 0, epoch, for: met, received };
  const packed = pack({ ...room, limit: received + Math.max(0, 16 - waiting.length) });
  announced = announced.then(() => left.send(packed)); // a socket sends one message at a time
}

let giving = Promise.resolve();
const give = (frames) => (giving = giving.then(() => right.send(frames)));

async function flush() {
  while (waiting.length && sent < limit) {
    sent += 1;
    const frames = waiting.shift();
    try { await give([receiver.identity, ...frames]); } catch { // it is gone; whoever takes its place announces room
      giving = Promise.resolve();
      waiting.unshift(frames);
      limit = 0;
    }
  }
}

async function listen() {
  for await (const [identity, packed] of right) {
    const header = unpack(packed), from = BigInt(header.epoch);
    if (from < receiver.epoch) continue;
    const same = identity.equals(receiver.identity || Buffer.alloc(0)) && BigInt(header.for) === epoch;
    receiver = { identity: Buffer.from(identity), epoch: from };
    if (same && header.received <= sent) limit = Math.max(limit, Number(header.limit));
    else { sent = limit = 0; await give([identity, pack({ v: 1, kind: "hello", from: [name, epoch] })]); }
    await flush();
  }
}

listen();
setInterval(announce, 50);
for await (const frames of left) {
  const header = unpack(frames[0]), sender = BigInt(header.from[1]);
  if (header.kind === "hello") { met = newest = sender; received = 0; announce(); continue; }
  if (sender < newest) continue;
  newest = sender, received += 1, heard = Date.now();
  work(header, frames);
  waiting.push([pack({ ...header, from: [name, epoch] }), ...frames.slice(1)]);
  await flush();
  announce();
}
