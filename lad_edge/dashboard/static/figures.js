// Shifts, latency, scores, light, outputs: the part of the page for the engineer.

import { histogram, lines, median, points } from "./charts.js";

const get = (id) => document.getElementById(id);
const LEAST_P = 1e-3;

export function showFigures(state, words) {
  showShifts(state.shifts);
  showLatency(state);
  showScores(state);
  showViews(state.views);
  showHealth(state, words);
}

function showShifts(shifts) {
  const head = row("th", ["from", "parts", "✓ OK", "✕ NG", "? UNKN.", "yield"]);
  const rows = shifts.map((shift, index) => {
    const parts = shift.OK + shift.NG + shift.UNKNOWN;
    const from = new Date(shift.begin_ms).toLocaleString("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit" });
    const shown = row("td", [from, parts, shift.OK, shift.NG, shift.UNKNOWN, parts ? `${((100 * shift.OK) / parts).toFixed(1)} %` : "–"]);
    shown.className = index === 0 ? "now" : "";
    return shown;
  });
  get("shifts").replaceChildren(head, ...rows);
}

function row(kind, texts) {
  const shown = document.createElement("tr");
  shown.append(...texts.map((text) => Object.assign(document.createElement(kind), { textContent: text })));
  return shown;
}

function showLatency({ latency, about }) {
  histogram(get("latency"), latency, about.deadline_ms);
  const text = latency ? `p50 ${short(latency.p50)}, p99 ${short(latency.p99)} ms` : "";
  get("latency-text").textContent = text;
}

function showScores({ scores, threshold, about }) {
  const reach = about.span || Math.abs(threshold) || 1;
  const level = (score) => 0.5 + (0.5 * (score - threshold)) / reach;
  const ticks = [0, 0.5, 1].map((at) => ({ at, text: threshold === null ? "" : short(threshold + (2 * at - 1) * reach) }));
  if (threshold > 0 && reach > threshold) ticks[0].text = ""; // scores do not come down there
  const values = scores.map(([, verdict, score]) => ({ verdict, at: score === null ? null : level(score) }));
  points(get("scores"), values, { ticks, limit: 0.5 });
  get("scores-text").textContent = threshold === null ? "" : "• OK  ✕ NG  ○ UNKNOWN";
  showPValues(scores);
}

function showPValues(scores) {
  const height = (p) => 1 - Math.log10(Math.max(p, LEAST_P)) / Math.log10(LEAST_P);
  const ticks = [1, 0.1, 0.01, LEAST_P].map((p) => ({ at: height(p), text: String(p) }));
  points(get("p-values"), scores.map(([, verdict, , p]) => ({ verdict, at: p === null ? null : height(p) })), { ticks });
  const known = scores.map(([, , , p]) => p).filter((p) => p !== null);
  get("p-values-text").textContent = known.length ? `median ${short(median(known))}` : "";
}

function showViews(views) {
  const [greys, sharpnesses] = [1, 2].map((column) => views.map((view) => view[column]));
  lines(get("views"), [{ values: greys, colour: "accent" }, { values: sharpnesses, colour: "unknown-ink", dashed: true }]);
  const text = views.length ? `— ${short(greys.at(-1))}   ‐ ‐ ${short(sharpnesses.at(-1))}` : "";
  get("views-text").textContent = text;
}

function showHealth(state, words) {
  const own = state.troubles.filter(({ where }) => ["camera", "engine", "line"].includes(where));
  const troubles = own.map(({ code, where, detail }) => [state.status === "live" ? "✕" : "▲", `${where}: ${words[code] ?? code}`, `${code} · ${detail}`]);
  const camera = own.some(({ where }) => where === "camera") ? [] : [["✓", `Camera: ${state.about.source || state.camera}`, ""]];
  const outputs = state.outputs.map((output) => {
    const codes = output.codes.map((code) => `${words[code] ?? ""} ${code}`).join(" ");
    const waiting = output.backlog ? `${output.backlog} waiting` : "";
    return [output.codes.length ? "▲" : "✓", output.name, [codes, output.state, waiting, output.detail].filter(Boolean).join(" · ")];
  });
  const reasons = Object.entries(state.reasons).filter(([reason]) => reason !== "SCORE_WITHIN_LIMIT").map(([reason, count]) => ["·", `${count} × ${reason}`, words[reason] ?? ""]);
  const missed = state.missed ? [["▲", `${state.missed} parts came faster than this page counts`, ""]] : [];
  get("health").replaceChildren(...[...troubles, ...camera, ...outputs, ...missed, ...reasons].map(item));
}

function item([sign, text, more]) {
  const shown = document.createElement("li");
  const [mark, name, small] = ["b", "span", "small"].map((kind) => document.createElement(kind));
  [mark.textContent, name.textContent, small.textContent] = [sign, text, more];
  mark.className = { "✓": "ok", "✕": "ng", "▲": "unknown" }[sign] ?? "quiet";
  shown.append(mark, name, small);
  return shown;
}

function short(value) {
  return Number(value.toPrecision(3)).toString();
}
