// Turns as files, in the forms that the command line writes.
const label = (name) => name.trim().replace(/\s+/g, "_") || "speaker";

// Three digits as the command line has them: of two that are as near, the even one (only odd sixteenths lie between two).
function fixed(seconds) {
  const between = (seconds * 16) % 2 === 1;
  return (between && Math.floor(seconds * 1000) % 2 === 0 ? seconds - 0.0001 : seconds).toFixed(3);
}

function cueTime(seconds) {
  const ms = Math.round(seconds * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const whole = Math.floor(ms / 1000);
  return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)},${String(ms % 1000).padStart(3, "0")}`;
}

export const formats = {
  rttm: (turns, name) =>
    turns.map((turn) => `SPEAKER ${label(name)} 1 ${fixed(turn.start)} ${fixed(turn.end - turn.start)} <NA> <NA> ${label(turn.name)} <NA> <NA>\n`).join(""),
  srt: (turns) =>
    turns.map((turn, index) => `${index + 1}\n${cueTime(turn.start)} --> ${cueTime(turn.end)}\n${turn.name}\n\n`).join(""),
  json: (turns, name) =>
    `${JSON.stringify({ stream: name, turns: turns.map(({ start, end, speaker, name: shown }) => ({ start, end, speaker, name: shown })) }, null, 1)}\n`,
};
