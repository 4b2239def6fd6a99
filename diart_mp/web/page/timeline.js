// Turns as one lane per speaker: the last minute, a minute further back, or the whole. Draws what it is given and knows nothing of
// where that comes from.
export const COLOURS = ["#3f86d0", "#d26a24", "#2f955b", "#c05299", "#8a6fd1", "#a37f1c", "#1f9292", "#d35757"];
export const SPAN = 60; // seconds
const STEP = 10; // seconds that an arrow key moves
const MARKS = [10, 30, 60, 120, 300, 600, 1800, 3600, 7200]; // seconds between two marks
const MARK_ROOM = 70; // pixels
const LEFT = 110;
const RIGHT = 8;
const AXIS = 22;
const LANE = 28;
const LEAST = 160;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.model = { turns: [], names: [], until: 0 };
    this.reset();
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Back to the newest minute.
  reset() {
    Object.assign(this, { whole: false, begin: null }); // where the shown minute begins; null: it follows the newest
  }

  show(model) {
    this.model = model;
    if (!this.due) this.due = requestAnimationFrame(() => { this.due = 0; this.draw(); });
  }

  toggle() {
    Object.assign(this, { whole: !this.whole, begin: null });
    this.draw();
  }

  // Whether the key is one that moves.
  key(name) {
    const newest = Math.max(0, this.model.until - SPAN);
    const moves = { ArrowLeft: -STEP, ArrowRight: STEP, PageUp: -SPAN, PageDown: SPAN, Home: -Infinity, End: Infinity };
    if (!(name in moves)) return false;
    const begin = Math.max(0, (this.begin ?? newest) + moves[name]);
    Object.assign(this, { whole: false, begin: begin >= newest ? null : begin });
    this.draw();
    return true;
  }

  draw() {
    const { canvas, model } = this;
    const scale = devicePixelRatio || 1;
    const tall = `${Math.max(LEAST, AXIS + LANE * model.names.length)}px`;
    if (canvas.style.height !== tall) canvas.style.height = tall;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = "13px system-ui, sans-serif";
    context.textBaseline = "middle";
    const begin = this.whole ? 0 : this.begin ?? Math.max(0, model.until - SPAN);
    const span = this.whole ? Math.max(SPAN, model.until) : SPAN;
    const room = Math.max(1, width - LEFT - RIGHT);
    const x = (seconds) => LEFT + ((seconds - begin) / span) * room;
    const style = getComputedStyle(document.documentElement);
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--ink");
    const step = MARKS.find((each) => (each / span) * room >= MARK_ROOM) ?? MARKS.at(-1);
    for (let mark = Math.ceil(begin / step) * step; mark <= begin + span; mark += step) this.mark(context, x(mark), mark, width, height);
    this.lanes(context, x, begin, begin + span, (height - AXIS) / Math.max(1, model.names.length));
  }

  mark(context, x, seconds, width, height) {
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height - AXIS);
    context.stroke();
    const text = clock(seconds);
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(x - half, width - 2 * half - 2), height - AXIS / 2);
  }

  lanes(context, x, begin, end, lane) {
    const { turns, names } = this.model;
    const middles = new Map();
    names.forEach(({ speaker, name }, row) => {
      const middle = lane * (row + 0.5);
      middles.set(speaker, [middle, COLOURS[row % COLOURS.length]]);
      context.fillText(name, 8, middle, LEFT - 16);
    });
    const thick = Math.min(24, lane * 0.6);
    for (const turn of turns) {
      const [middle, colour] = middles.get(turn.speaker) ?? [];
      if (colour === undefined || turn.end <= begin || turn.start >= end) continue;
      const from = x(Math.max(begin, turn.start));
      context.fillStyle = colour;
      context.fillRect(from, middle - thick / 2, Math.max(2, x(Math.min(end, turn.end)) - from), thick);
    }
  }
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
