// One part, large, with its findings and the button that says that it was judged wrongly.

import { draw } from "./pictures.js";
import { findingsOf, listFindings } from "./status.js";

const LABELS = { NG: ["false_reject", "False reject: this part is good"], UNKNOWN: ["false_reject", "False reject: this part is good"], OK: ["missed", "Missed: this part is bad"] };
const SAID = { false_reject: "kept as a false reject", missed: "kept as missed" };
const get = (id) => document.getElementById(id);

let part = null;
let others = [];
let withMap = () => true;

/** Shows the part; `among`: the NG parts, newest first, that the arrow keys go through. */
export function openPart(chosen, view, among) {
  [part, others] = [chosen, among];
  const { record } = part;
  const [, text] = LABELS[record.verdict];
  get("dialog-title").textContent = `${record.verdict}  ·  ${record.part_id || record.frame_id}  ·  no. ${record.seq}  ·  ${new Date(record.utc_ns / 1e6).toLocaleString("en-GB")}`;
  listFindings(get("dialog-findings"), findingsOf(record, view.words));
  get("label-button").textContent = `${text}  (L)`;
  get("label-button").hidden = !view.labels;
  showLabel();
  if (!get("part-dialog").open) get("part-dialog").showModal();
  draw(get("dialog-picture"), part, withMap());
}

export function setUpDialog(view, onLabelled) {
  withMap = () => view.withMap;
  const dialog = get("part-dialog");
  dialog.addEventListener("map", () => part && draw(get("dialog-picture"), part, view.withMap));
  get("label-button").addEventListener("click", () => send(onLabelled));
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
    const next = step && others[others.findIndex((other) => other.record.seq === part.record.seq) + step];
    if (next) openPart(next, view, others);
    if (event.key === "l" && view.labels) send(onLabelled);
  });
}

async function send(onLabelled) {
  const asked = part;
  if (asked.labelled || get("label-button").hidden) return;
  const token = sessionStorage.getItem("token");
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const body = JSON.stringify({ label: LABELS[asked.record.verdict][0], camera: asked.camera, seq: asked.record.seq });
  try {
    const answer = await (await fetch("label", { method: "POST", headers, body })).json();
    asked.labelled = answer.label;
    asked.trouble = answer.error;
  } catch {
    asked.trouble = "the line does not answer";
  }
  onLabelled();
  if (part === asked) showLabel();
}

function showLabel() {
  get("label-button").disabled = Boolean(part.labelled);
  get("label-text").textContent = part.labelled ? `✓ ${SAID[part.labelled]}` : part.trouble ? `Not kept: ${part.trouble}` : "";
}
