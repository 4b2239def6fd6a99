// A stream: its audio until the server has it, a connection that speaks diart-mp.v1 and comes back by itself, and what was said.
// Knows nothing of the document: whoever makes one is told through `page` (say, complain, settle, meet, rename, show).
import { Known } from "./known.js";

const PROTOCOL = "diart-mp.v1";
const RETRY_MS = [200, 500, 1000, 2000];
const GIVE_UP_MS = 60000;
const SILENCE_MS = 10000; // without a word, while audio waits to be acknowledged, after which a connection counts as dead
const LOOK_MS = 1000; // between two looks whether it is
const HELD_S = 120; // of audio that is kept until the server has it
const KEPT_S = 2; // of acknowledged audio: a new server process may want some of it again
const AHEAD_S = 30; // of a recording that is sent before it is acknowledged, so that it can be stopped
const AT_ONCE_S = 1; // of live audio that piled up while the server was away; the rest is sent at the pace that it allows
const BUFFERED = 1 << 20; // bytes that the browser may hold, before more is sent
const ROOM_MS = 50;

export class Stream {
  constructor({ name, rate, live, token, page }) {
    Object.assign(this, { name, rate, live, token, page, blocks: [], first: 0, end: 0, position: 0, acked: 0, lost: 0, ended: false, over: false });
    Object.assign(this, { segments: new Map(), known: new Known(), finals: 0, resume: "", until: 0, latency: null, speakers: new Map() });
    Object.assign(this, { attempts: 0, since: Date.now(), pumping: 0, retrying: 0 });
    this.watch = setInterval(() => this.look(), LOOK_MS);
    this.connect();
  }

  add(block) {
    this.blocks.push(block);
    this.end += block.length;
    while (this.live && this.end - this.first > HELD_S * this.rate) this.first += this.blocks.shift().length;
    this.pump();
  }

  // No more audio comes; of a recording, what was not sent yet is left out.
  finish({ cut = false } = {}) {
    while (cut && this.blocks.length && this.end - this.blocks.at(-1).length >= this.position) this.end -= this.blocks.pop().length;
    this.ended = true;
    this.pump();
  }

  // The page is closed: the server need not wait for anybody.
  leave() {
    this.stop();
    this.socket.close(1000);
  }

  connect() {
    const address = new URL(location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.search = this.token ? `?token=${encodeURIComponent(this.token)}` : "";
    address.hash = "";
    const socket = (this.socket = new WebSocket(address, PROTOCOL));
    this.open = false;
    this.heardAt = Date.now();
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      const wish = this.resume
        ? { resume_token: this.resume, finals: this.finals }
        : { audio: { encoding: "pcm_f32le", rate: this.rate, channels: 1 }, pace: this.live ? "live" : "fast" };
      socket.send(JSON.stringify({ type: "start", protocol: PROTOCOL, ...wish }));
    };
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    socket.onclose = () => this.broken();
  }

  // A network that is gone says nothing, for minutes: who waits for an answer must notice by itself.
  look() {
    const waits = !this.open || (this.live && this.acked < this.position);
    if (!this.retrying && waits && Date.now() - this.heardAt > SILENCE_MS) this.broken();
  }

  broken() {
    if (this.over) return;
    Object.assign(this.socket, { onopen: null, onmessage: null, onclose: null });
    this.socket.close();
    if (this.open) Object.assign(this, { attempts: 0, since: Date.now() });
    this.open = false;
    if (!this.resume) {
      this.fail("The server cannot be reached. Is diart-mp serve running?");
    } else if (Date.now() - this.since > GIVE_UP_MS) {
      this.fail("The server has been away for a minute. Start again once it runs.");
    } else {
      this.page.say("Connection lost; trying again");
      const wait = RETRY_MS[Math.min(this.attempts++, RETRY_MS.length - 1)];
      this.retrying = setTimeout(() => { this.retrying = 0; this.connect(); }, wait);
    }
  }

  pump() {
    if (!this.open || this.pumping) return;
    for (let block = this.next(); block; block = this.next()) {
      if (this.socket.bufferedAmount > BUFFERED || this.position > this.allowed()) {
        this.pumping = setTimeout(() => { this.pumping = 0; this.pump(); }, ROOM_MS);
        return;
      }
      if (this.position < this.first) this.mourn(block.length);
      this.send(block);
    }
    if (this.ended && !this.stopped) {
      this.stopped = true;
      this.socket.send(JSON.stringify({ type: "stop" }));
    }
  }

  // Up to where it may be sent now.
  allowed() {
    if (!this.live) return this.acked + AHEAD_S * this.rate;
    return this.from + this.rate * (AT_ONCE_S + (this.hurry * (Date.now() - this.openedAt)) / 1000);
  }

  send(samples) {
    this.socket.send(samples);
    this.position += samples.length;
  }

  // What is to be sent now. What the server was never sent, and is not held any more, is silence: times stay those of the recording.
  next() {
    if (this.position < this.first) return new Float32Array(Math.min(this.first - this.position, this.rate));
    let begin = this.first;
    for (const block of this.blocks) {
      if (this.position < begin + block.length) return block.subarray(this.position - begin);
      begin += block.length;
    }
    return null;
  }

  mourn(samples) {
    this.lost += samples;
    this.page.complain(`${(this.lost / this.rate).toFixed(1)} s of audio were lost while the server was away.`);
  }

  hear(message) {
    this.heardAt = Date.now();
    if (message.type === "started") {
      this.begin(message);
    } else if (message.type === "ack") {
      this.acked = message.samples;
      while (this.blocks.length && this.first + this.blocks[0].length < message.samples - KEPT_S * this.rate) this.first += this.blocks.shift().length;
    } else if (message.type === "segment") {
      this.take(message);
    } else if (message.type === "revision") {
      this.revise(message);
    } else if (message.type === "stats") {
      Object.assign(this, { until: message.until, latency: message.latency_ms });
    } else if (message.type === "warning") {
      this.page.complain(message.message);
    } else if (message.type === "error" && (!message.retryable || !this.resume)) {
      this.fail(message.code === "unauthorized" ? "This server asks for a token: type it above and start again." : sentence(message.message), message.code);
    } else if (message.type === "ended") {
      this.stop();
      this.page.settle(message.reason === "stopped" ? "Done" : "The server has shut down");
    }
    this.page.show();
  }

  begin({ resume_token, samples, limits }) {
    Object.assign(this, { open: true, stopped: false, resume: resume_token, position: samples, acked: samples });
    Object.assign(this, { from: samples, hurry: limits.max_rate, openedAt: Date.now() });
    this.page.say(this.live ? "Listening" : `Reading ${this.name}`);
    this.pump();
  }

  take(message) {
    if (message.retracted) this.segments.delete(message.id);
    else this.segments.set(message.id, message);
    if (message.final) this.finals = message.index + 1;
    this.meet(message.speaker);
  }

  revise(message) {
    const given = new Map([...this.speakers].filter(([speaker, name]) => name !== speaker)); // names that people typed
    this.known.revise(message, [...this.segments.values()]);
    for (const { speaker } of message.turns) this.meet(speaker);
    const renamed = Object.entries(message.renamed);
    for (const [before, now] of renamed) {
      this.meet(now);
      if (given.has(before)) this.call(now, given.get(before));
      else if (now in message.renamed) this.call(now, now);
    }
    const names = new Set(Object.values(message.renamed));
    for (const [before] of renamed) if (!names.has(before) && this.speakers.has(before)) this.call(before, before);
  }

  meet(speaker) {
    if (this.speakers.has(speaker)) return;
    this.speakers.set(speaker, speaker);
    this.page.meet(speaker, this.speakers.size - 1);
  }

  call(speaker, name) {
    this.speakers.set(speaker, name);
    this.page.rename(speaker, name);
  }

  fail(text, code = "") {
    this.stop();
    this.socket.close();
    this.page.complain(text);
    this.page.settle("Stopped", code);
  }

  stop() {
    this.over = true;
    this.blocks = []; // an hour of a recording need not stay
    clearInterval(this.watch);
    clearTimeout(this.pumping);
    clearTimeout(this.retrying);
  }

  turns() {
    return this.known.turns([...this.segments.values()]).map((each) => ({ ...each, name: this.speakers.get(each.speaker) }));
  }
}

const sentence = (text) => (/[.?!]$/.test(text) ? text : `${text}.`);
