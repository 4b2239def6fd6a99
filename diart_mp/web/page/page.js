// The page: where audio comes from, and what is shown of the stream that it makes.
import { COLOURS, SPAN, Timeline, clock } from "./timeline.js";
import { formats } from "./formats.js";
import { Stream } from "./stream.js";

const ROWS = 500; // of the list of turns
const find = (id) => document.getElementById(id);
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const timeline = new Timeline(find("timeline"));
let stream = null;
let starting = false; // a microphone is asked for, or a file is decoded
let release = () => {};

// --- what the stream tells

const page = {
  say(text) { find("state").textContent = text; },

  complain(text) {
    find("problem").textContent = text;
    find("problem").hidden = false;
  },

  settle(text, code) {
    release();
    page.say(text);
    const focused = document.activeElement === find("stop"); // a button that is disabled loses it
    enable();
    if (focused) find("listen").focus();
    find("file").value = "";
    if (code === "unauthorized") {
      find("token-label").hidden = false;
      find("token").focus();
    }
    render();
  },

  meet(speaker, row) {
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
    const owner = stream;
    input.addEventListener("input", () => {
      owner.speakers.set(speaker, input.value.trim() || speaker);
      render();
    });
    item.append(swatch, input);
    find("speakers").append(item);
    find("nobody").hidden = true;
  },

  rename(speaker, name) {
    find("speakers").querySelector(`[data-speaker=${CSS.escape(speaker)}]`).value = name;
  },

  // At most once per frame: a recording that is read fast makes hundreds of messages a second.
  show() {
    page.due ||= requestAnimationFrame(render);
  },
};

function render() {
  cancelAnimationFrame(page.due);
  page.due = 0;
  if (!stream) return;
  const turns = stream.turns();
  const names = [...stream.speakers].map(([speaker, name]) => ({ speaker, name }));
  const given = stream.end / stream.rate;
  timeline.show({ turns, names, until: Math.max(stream.until, stream.live ? given : 0) });
  find("heard").textContent = stream.live || stream.over ? clock(given) : `${clock(stream.until)} of ${clock(given)}`;
  find("lag").textContent = stream.live && !stream.over ? `${Math.max(0, given - stream.until).toFixed(1)} s` : "–";
  find("latency").textContent = stream.live && stream.latency !== null ? `${Math.round(stream.latency)} ms` : "–";
  find("whole").disabled = given <= SPAN;
  const last = turns.at(-1);
  const summary = `${plural(names.length, "speaker")}, ${plural(turns.length, "turn")}`;
  find("timeline").setAttribute("aria-label", last ? `${summary}; last: ${last.name} from ${clock(last.start)}` : "No speech yet");
  showTurns(turns);
  for (const button of document.querySelectorAll("[data-format]")) button.disabled = turns.length === 0;
}

function showTurns(turns) {
  const body = find("turns");
  const list = body.closest(".turns");
  const follows = list.scrollTop + list.clientHeight > list.scrollHeight - 40; // else somebody reads further up
  const rows = turns.slice(-ROWS);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((turn, index) => {
    const row = body.rows[index] ?? body.insertRow();
    const texts = [turn.start.toFixed(2), turn.end.toFixed(2), turn.name];
    const kind = turn.final ? "" : "open";
    if (row.className !== kind) row.className = kind;
    texts.forEach((text, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
  if (follows) list.scrollTop = list.scrollHeight;
}

// --- where audio comes from

function enable() {
  const busy = starting || (stream !== null && !stream.over);
  find("listen").disabled = find("file").disabled = busy;
  find("stop").disabled = starting || !busy;
}

// One source at a time: `open` gives a stream, or nothing after a complaint.
async function start(open) {
  if (starting || (stream && !stream.over)) {
    page.complain("A stream is under way: stop it first.");
    return;
  }
  find("problem").hidden = true;
  const focused = document.activeElement === find("listen");
  starting = true;
  enable();
  try {
    await open();
  } finally {
    starting = false;
    enable();
  }
  if (focused) find(find("stop").disabled ? "listen" : "stop").focus();
}

function begin(name, rate, live) {
  find("speakers").replaceChildren();
  find("nobody").hidden = false;
  timeline.reset();
  showWhole();
  stream = new Stream({ name, rate, live, token: find("token").value, page });
  render();
  return stream;
}

function end() {
  release();
  page.say("Finishing");
  stream.finish({ cut: !stream.live });
}

async function listen() {
  if (!navigator.mediaDevices?.getUserMedia) {
    page.complain("Browsers give microphones to safe pages only: open this page as http://localhost, or serve it with --cert.");
    return;
  }
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  } catch (error) {
    page.complain(error.name === "NotAllowedError" ? "The microphone is blocked: allow it for this page in the address bar." : "No microphone was found: plug one in and try again.");
    return;
  }
  const context = new AudioContext();
  release = () => {
    release = () => {};
    for (const track of media.getTracks()) track.stop();
    context.close();
  };
  try {
    await context.audioWorklet.addModule("recorder.js");
  } catch {
    release();
    page.complain("The rest of the page cannot be loaded. Is diart-mp serve still running? Reload the page then.");
    return;
  }
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  const mine = begin("microphone", context.sampleRate, true);
  node.port.onmessage = ({ data }) => { if (!mine.ended && !mine.over) { mine.add(data); page.show(); } };
  media.getAudioTracks()[0].onended = () => {
    if (mine.over || mine.ended) return;
    page.complain("The microphone is gone: plug it in, and listen again.");
    end();
  };
  context.createMediaStreamSource(media).connect(node);
}

async function read(file) {
  page.say(`Decoding ${file.name}`);
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await file.arrayBuffer());
  } catch {
    page.complain(`${file.name} cannot be read as audio: try WAV, MP3, FLAC, Ogg or M4A.`);
    page.say("Not listening");
    find("file").value = "";
    return;
  }
  const mixed = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, index) => { mixed[index] += sample / audio.numberOfChannels; });
  }
  const mine = begin(file.name.replace(/\.[^.]*$/, ""), audio.sampleRate, false);
  for (let at = 0; at < mixed.length; at += audio.sampleRate) mine.add(mixed.subarray(at, at + audio.sampleRate));
  mine.finish();
}

// --- what people do

function download(format) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([formats[format](stream.turns(), stream.name)], { type: "text/plain" }));
  link.download = `${stream.name}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function showWhole() { find("whole").setAttribute("aria-pressed", String(timeline.whole)); }

function move(event) {
  if (!timeline.key(event.key)) return;
  event.preventDefault();
  showWhole();
}

find("listen").addEventListener("click", () => start(listen));
find("stop").addEventListener("click", end);
find("file").addEventListener("change", ({ target }) => { if (target.files[0]) start(() => read(target.files[0])); });
find("timeline").addEventListener("keydown", move);
find("whole").addEventListener("click", () => { timeline.toggle(); showWhole(); });
for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => download(button.dataset.format));
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) start(() => read(file));
});
addEventListener("pagehide", () => { if (stream && !stream.over) stream.leave(); });
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? new URLSearchParams(location.search).get("token");
if (token) {
  find("token").value = token;
  find("token-label").hidden = false;
}
document.body.dataset.ready = "yes";
