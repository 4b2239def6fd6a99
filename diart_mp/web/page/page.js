// The page: a source, a connection that speaks diart-mp.v1 and comes back by itself, and what is shown of it.
import { COLOURS, Timeline, clock } from "./timeline.js";
import { formats } from "./formats.js";
import { Known } from "./known.js";

const PROTOCOL = "diart-mp.v1";
const RETRY_MS = [200, 500, 1000, 2000];
const GIVE_UP_MS = 60000;
const HELD_S = 120; // of audio that is kept until the server has it
const KEPT_S = 2;
const find = (id) => document.getElementById(id);
const timeline = new Timeline(find("timeline"));
let stream = null;

class Stream {
  constructor(name, rate, pace) {
    Object.assign(this, { name, rate, pace, blocks: [], first: 0, end: 0, position: 0, ended: false, over: false });
    Object.assign(this, { segments: new Map(), known: new Known(), finals: 0, token: "", until: 0, speakers: new Map(), attempts: 0, since: Date.now() });
    this.connect();
  }

  add(block) {
    this.blocks.push(block);
    this.end += block.length;
    while (this.end - this.first > HELD_S * this.rate && this.pace === "live") this.first += this.blocks.shift().length;
    this.pump();
  }

  finish() {
    this.ended = true;
    this.pump();
  }

  connect() {
    const address = new URL(location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.search = find("token").value ? `?token=${encodeURIComponent(find("token").value)}` : "";
    address.hash = "";
    const socket = (this.socket = new WebSocket(address, PROTOCOL));
    this.open = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      const wish = this.token
        ? { resume_token: this.token, finals: this.finals }
        : { audio: { encoding: "pcm_f32le", rate: this.rate, channels: 1 }, pace: this.pace };
      socket.send(JSON.stringify({ type: "start", protocol: PROTOCOL, ...wish }));
    };
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    socket.onclose = () => this.broken();
  }

  broken() {
    if (this.over) return;
    if (this.open) { this.attempts = 0; this.since = Date.now(); }
    this.open = false;
    if (Date.now() - this.since > GIVE_UP_MS || !this.token) {
      this.fail(this.token ? "The server has been away for a minute. Start again once it runs." : "The server cannot be reached. Is diart-mp serve running?");
      return;
    }
    say("Connection lost; trying again");
    setTimeout(() => this.connect(), RETRY_MS[Math.min(this.attempts++, RETRY_MS.length - 1)]);
  }

  pump() {
    if (!this.open) return;
    let begin = this.first;
    for (const block of this.blocks) {
      const next = begin + block.length;
      if (this.position < next) {
        if (this.socket.bufferedAmount > 1 << 20) { setTimeout(() => this.pump(), 50); return; }
        this.socket.send(block.subarray(Math.max(0, this.position - begin)));
        this.position = next;
      }
      begin = next;
    }
    if (this.ended && !this.stopped) {
      this.stopped = true;
      this.socket.send(JSON.stringify({ type: "stop" }));
    }
  }

  hear(message) {
    if (message.type === "started") {
      Object.assign(this, { open: true, stopped: false, token: message.resume_token, position: Math.max(message.samples, this.first) });
      say(this.pace === "live" ? "Listening" : `Reading ${this.name}`);
      this.pump();
    } else if (message.type === "ack") {
      while (this.blocks.length && this.first + this.blocks[0].length < message.samples - KEPT_S * this.rate) this.first += this.blocks.shift().length;
    } else if (message.type === "segment") {
      this.take(message);
    } else if (message.type === "revision") {
      this.revise(message);
    } else if (message.type === "stats") {
      this.until = message.until;
      find("latency").textContent = this.pace === "live" && message.latency_ms !== null ? `${Math.round(message.latency_ms)} ms` : "–";
    } else if (message.type === "warning") {
      complain(message.message);
    } else if (message.type === "error" && !message.retryable) {
      this.fail(message.code === "unauthorized" ? "This server asks for a token: type it above and start again." : message.message);
    } else if (message.type === "error" && !this.token) {
      this.fail(`${message.message}.`);
    } else if (message.type === "ended") {
      this.over = true;
      settle(message.reason === "stopped" ? "Done" : "The server has shut down");
    }
    show();
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
      if (given.has(before)) call(this, now, given.get(before));
      else if (now in message.renamed) call(this, now, now);
    }
    const names = new Set(Object.values(message.renamed));
    for (const [before] of renamed) if (!names.has(before) && this.speakers.has(before)) call(this, before, before);
  }

  meet(speaker) {
    if (!this.speakers.has(speaker)) addSpeaker(this, speaker);
  }

  fail(text) {
    this.over = true;
    this.socket.close();
    complain(text);
    settle("Stopped");
  }

  turns() {
    return this.known.turns([...this.segments.values()]).map((each) => ({ ...each, name: this.speakers.get(each.speaker) }));
  }
}

function addSpeaker(owner, speaker) {
  const row = owner.speakers.size;
  owner.speakers.set(speaker, speaker);
  const item = document.createElement("li");
  const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  swatch.setAttribute("class", "swatch");
  swatch.setAttribute("aria-hidden", "true");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ width: 16, height: 16, rx: 3, fill: COLOURS[row % COLOURS.length] })) square.setAttribute(key, value);
  swatch.append(square);
  const input = document.createElement("input");
  input.value = speaker;
  input.dataset.speaker = speaker;
  input.setAttribute("aria-label", `Name of ${speaker}`);
  input.addEventListener("input", () => {
    owner.speakers.set(speaker, input.value.trim() || speaker);
    show();
  });
  item.append(swatch, input);
  find("speakers").append(item);
  find("nobody").hidden = true;
}

function call(owner, speaker, name) {
  owner.speakers.set(speaker, name);
  find("speakers").querySelector(`[data-speaker=${CSS.escape(speaker)}]`).value = name;
}

function show() {
  if (!stream) return;
  const turns = stream.turns();
  const names = [...stream.speakers].map(([speaker, name]) => ({ speaker, name }));
  const heard = stream.end / stream.rate;
  timeline.show({ turns, names, until: Math.max(stream.until, stream.pace === "live" ? heard : 0) });
  find("heard").textContent = clock(heard);
  find("lag").textContent = stream.over ? "–" : `${Math.max(0, heard - stream.until).toFixed(1)} s`;
  const last = turns.at(-1);
  const summary = last ? `${names.length} speakers, ${turns.length} turns; last: ${last.name} from ${clock(last.start)}` : "No speech yet";
  find("timeline").setAttribute("aria-label", summary);
  showTurns(turns);
  for (const button of document.querySelectorAll("[data-format]")) button.disabled = turns.length === 0;
}

function showTurns(turns) {
  const body = find("turns");
  const rows = turns.slice(-500);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((turn, index) => {
    const row = body.rows[index] ?? body.insertRow();
    const texts = [turn.start.toFixed(2), turn.end.toFixed(2), turn.name];
    row.className = turn.final ? "" : "open";
    texts.forEach((text, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
}

function begin(name, rate, pace) {
  find("problem").hidden = true;
  find("speakers").replaceChildren();
  find("nobody").hidden = false;
  stream = new Stream(name, rate, pace);
  find("listen").disabled = true;
  find("stop").disabled = false;
  show();
  return stream;
}

let release = () => {};

async function listen() {
  if (!navigator.mediaDevices?.getUserMedia) {
    complain("Browsers give microphones to safe pages only: open this page as http://localhost, or serve it with --cert.");
    return;
  }
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  } catch (error) {
    complain(error.name === "NotAllowedError" ? "The microphone is blocked: allow it for this page in the address bar." : "No microphone was found: plug one in and try again.");
    return;
  }
  const context = new AudioContext();
  await context.audioWorklet.addModule("recorder.js");
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  const mine = begin("microphone", context.sampleRate, "live");
  node.port.onmessage = ({ data }) => { if (!mine.ended) mine.add(data); };
  context.createMediaStreamSource(media).connect(node);
  release = () => {
    release = () => {};
    for (const track of media.getTracks()) track.stop();
    context.close();
  };
}

async function read(file) {
  if (stream && !stream.over) {
    complain("A stream is under way: stop it first.");
    return;
  }
  say(`Decoding ${file.name}`);
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await file.arrayBuffer());
  } catch {
    complain(`${file.name} cannot be read as audio: try WAV, MP3, FLAC, Ogg or M4A.`);
    say("Not listening");
    return;
  }
  const mixed = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, index) => { mixed[index] += sample / audio.numberOfChannels; });
  }
  const mine = begin(file.name.replace(/\.[^.]*$/, ""), audio.sampleRate, "fast");
  for (let start = 0; start < mixed.length; start += audio.sampleRate) mine.add(mixed.subarray(start, start + audio.sampleRate));
  mine.finish();
}

function settle(text) {
  release();
  say(text);
  find("listen").disabled = false;
  find("stop").disabled = true;
  find("file").value = "";
}

function say(text) { find("state").textContent = text; }

function complain(text) {
  const problem = find("problem");
  problem.textContent = text;
  problem.hidden = false;
  if (text.includes("token")) find("token-label").hidden = false;
}

function download(format) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([formats[format](stream.turns(), stream.name)], { type: "text/plain" }));
  link.download = `${stream.name}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

find("listen").addEventListener("click", listen);
find("stop").addEventListener("click", () => { release(); stream.finish(); say("Finishing"); });
find("file").addEventListener("change", ({ target }) => { if (target.files[0]) read(target.files[0]); });
for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => download(button.dataset.format));
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
});
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  find("token").value = given;
  find("token-label").hidden = false;
}
document.body.dataset.ready = "yes";
