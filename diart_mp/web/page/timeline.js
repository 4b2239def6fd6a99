// The last minute as one lane per speaker. Draws what it is given and knows nothing of where that comes from.
export const COLOURS = ["#4a90d9", "#e07b39", "#3fa66b", "#c05299", "#8a6fd1", "#b8912a", "#2fa3a3", "#d35757"];
const SPAN = 60;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.model = { turns: [], names: [], until: 0 };
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(model) {
    this.model = model;
    if (!this.due) this.due = requestAnimationFrame(() => { this.due = 0; this.draw(); });
  }

  draw() {
    const { canvas, model } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink");
    const line = style.getPropertyValue("--line");
    context.font = "13px system-ui, sans-serif";
    context.textBaseline = "middle";
    const left = 110;
    const axis = 22;
    const begin = Math.max(0, model.until - SPAN);
    const x = (seconds) => left + ((seconds - begin) / SPAN) * (width - left - 8);
    context.strokeStyle = line;
    context.fillStyle = ink;
    for (let mark = Math.ceil(begin / 10) * 10; mark <= begin + SPAN; mark += 10) {
      context.beginPath();
      context.moveTo(x(mark), 0);
      context.lineTo(x(mark), height - axis);
      context.stroke();
      const text = clock(mark);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(x(mark) - half, width - 2 * half - 2), height - axis / 2);
    }
    const lane = (height - axis) / Math.max(1, model.names.length);
    model.names.forEach(({ speaker, name }, row) => {
      const middle = lane * (row + 0.5);
      context.fillStyle = ink;
      context.fillText(name, 8, middle, left - 16);
      context.fillStyle = COLOURS[row % COLOURS.length];
      const thick = Math.min(24, lane * 0.6);
      for (const turn of model.turns) {
        if (turn.speaker !== speaker || turn.end <= begin) continue;
        const from = x(Math.max(begin, turn.start));
        context.fillRect(from, middle - thick / 2, Math.max(2, x(turn.end) - from), thick);
      }
    });
  }
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
