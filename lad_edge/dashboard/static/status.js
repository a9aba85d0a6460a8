// What the band on top says. A verdict is shown only while it is certain that it is the newest one: an old OK is worse than no page.

export const STALE_MS = 2000;

const SHAPES = {
  ok: ["M50 4a46 46 0 1 0 .01 0z", "M28 52l16 16 28-34"],
  ng: ["M31 4h38l27 27v38l-27 27H31L4 69V31z", "M33 33l34 34M67 33L33 67"],
  unknown: ["M50 4l48 88H2z", "M50 36v26M50 77v1"],
  waiting: ["M50 4a46 46 0 1 0 .01 0z", "M50 24v28l17 12"],
  stale: ["M8 8h84v84H8z", "M26 26l48 48"],
};

export function shapeOf(kind) {
  return SHAPES[kind];
}

/** kind, word and sentence for a camera. `link`: when the last message came, and how late messages come; ms of performance.now(). */
export function statusOf(camera, link, now, words) {
  const silent = now - link.heardMs;
  if (!link.heardMs) return stale("CONNECTING", "No word from the line yet.");
  if (silent > STALE_MS) return stale("NO CONNECTION", `No word from the line for ${seconds(silent)}. What is below is old.`);
  if (link.lateMs > STALE_MS) return stale("TOO SLOW", `What arrives here is ${seconds(link.lateMs)} old: the network is too slow.`);
  if (!camera?.state) return stale("CONNECTING", "No word from this camera yet.");
  return ofLine(camera, now - camera.stateMs, words);
}

function ofLine({ state, part }, since, words) {
  if (since > STALE_MS) return stale("NO CONNECTION", `No word from this camera for ${seconds(since)}. What is below is old.`);
  if (state.ended) return stale("LINE ENDED", "The line has ended: no part is judged.");
  if (1000 * state.beat_age_s + since > STALE_MS)
    return stale("LINE STANDS", `The line has not moved for ${seconds(1000 * state.beat_age_s + since)}: no part is judged.`);
  if (state.lost) return { kind: "unknown", word: "NO CAMERA", sentence: words.CAMERA_LOST };
  if (!part || state.part_age_s === null) return { kind: "waiting", word: "WAITING FOR A PART", sentence: "No part has come yet." };
  const age = 1000 * state.part_age_s + since;
  const { verdict } = part.record;
  if (age > STALE_MS)
    return { kind: "waiting", word: "WAITING FOR A PART", sentence: `The last one was ${verdict}, ${seconds(age)} ago.` };
  return { kind: verdict.toLowerCase(), word: verdict, sentence: sentenceOf(part.record, words) };
}

/** The first thing that a person should read about a part. */
export function sentenceOf(record, words) {
  const reasons = record.reasons.map((reason) => words[reason] ?? reason);
  return (record.verdict === "UNKNOWN" ? reasons[0] : record.findings[0]) ?? reasons[0] ?? record.detail;
}

/** All that is known, worst first: texts, with the reason code where there is one. */
export function findingsOf(record, words) {
  const findings = record.findings.map((text) => ({ text, code: "" }));
  const reasons = record.reasons.map((code) => ({ text: words[code] ?? "", code: record.verdict === "OK" ? "" : code }));
  const detail = record.detail ? [{ text: record.detail, code: "" }] : [];
  return [...findings, ...reasons, ...detail];
}

/** Findings as the items of a list. */
export function listFindings(element, findings) {
  element.replaceChildren(...findings.map(item));
}

function item({ text, code }) {
  const [shown, small] = ["li", "small"].map((kind) => document.createElement(kind));
  small.textContent = code;
  shown.append(`${text} `, small);
  return shown;
}

function stale(word, sentence) {
  return { kind: "stale", word, sentence };
}

function seconds(ms) {
  const s = Math.round(ms / 1000);
  return s < 120 ? `${s} s` : s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}
