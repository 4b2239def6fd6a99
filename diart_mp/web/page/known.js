// The turns as they are known by now: segments as they were told, and revisions that took some of them back.
const JOIN_S = 0.05;

export class Known {
  constructor() {
    Object.assign(this, { revised: [], until: -1 });
  }

  // What was told before the revision's start stays, under other names where these have changed.
  revise({ start, end, turns, renamed }, segments) {
    const rename = (turn) => ({ ...turn, speaker: renamed[turn.speaker] ?? turn.speaker });
    const before = this.turns(segments).filter((turn) => turn.start < start);
    const kept = before.map((turn) => rename({ ...turn, end: Math.min(turn.end, start), final: true }));
    this.revised = join([...kept, ...turns.map((turn) => ({ ...turn, final: true }))]);
    this.until = end;
  }

  turns(segments) {
    if (this.until < 0) return segments.sort(inTime);
    const since = segments.filter((each) => each.end > this.until + JOIN_S); // a segment may reach a frame too far
    return join([...this.revised, ...since.map((each) => ({ ...each, start: Math.max(each.start, this.until) }))]);
  }
}

function inTime(a, b) {
  return a.start - b.start || a.end - b.end;
}

function join(turns) {
  const last = new Map();
  const joined = [];
  for (const turn of turns.sort(inTime)) {
    const own = last.get(turn.speaker);
    if (own && turn.start - own.end < JOIN_S) {
      own.end = Math.max(own.end, turn.end);
      own.final = own.final && turn.final;
    } else {
      const copy = { ...turn };
      last.set(turn.speaker, copy);
      joined.push(copy);
    }
  }
  return joined;
}
