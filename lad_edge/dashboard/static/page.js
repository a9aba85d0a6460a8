// The operator's page: messages of the line in, one screen out. Text goes in as text, never as markup.

import { follow } from "./feed.js";
import { clear, draw } from "./pictures.js";
import { showFigures } from "./figures.js";
import { openPart, setUpDialog } from "./dialog.js";
import { findingsOf, listFindings, sentenceOf, shapeOf, statusOf } from "./status.js";

const REJECTS = 12;
const TICK_MS = 250;
const get = (id) => document.getElementById(id);

const words = await (await fetch("reasons.json")).json();
const cameras = new Map(); // name → { name, state, stateMs, part, rejects }
const link = { heardMs: 0, lateMs: 0, leastOffsetMs: Infinity };
const view = { camera: null, withMap: true, labels: false, words };

function take(message) {
  link.heardMs = performance.now();
  if (message.kind === "page") {
    view.labels = message.labels;
    return;
  }
  if (!cameras.has(message.camera)) addCamera(message.camera);
  const camera = cameras.get(message.camera);
  if (message.kind === "state") takeState(camera, message);
  else if (message.kind === "part") camera.part = message;
  else takeReject(camera, message);
  if (camera.name === view.camera) show(camera, message.kind);
}

/** How late messages are: by the clocks of both ends, which differ by an unknown amount that the quickest message shows. */
function takeState(camera, state) {
  camera.state = state;
  camera.stateMs = performance.now();
  const offsetMs = camera.stateMs - state.sent_ms;
  link.leastOffsetMs = Math.min(link.leastOffsetMs, offsetMs);
  link.lateMs = offsetMs - link.leastOffsetMs;
}

function takeReject(camera, part) {
  const others = camera.rejects.filter((other) => other.record.seq !== part.record.seq);
  camera.rejects = [part, ...others].sort((a, b) => b.record.utc_ns - a.record.utc_ns).slice(0, REJECTS);
}

function addCamera(name) {
  cameras.set(name, { name, state: null, stateMs: 0, part: null, rejects: [] });
  view.camera ??= name;
  const tabs = names().map((each, index) => tab(each, index));
  get("cameras").replaceChildren(...(tabs.length > 1 ? tabs : []));
}

/** In an order that stays the same, whoever speaks first. */
function names() {
  return [...cameras.keys()].sort();
}

function tab(name, index) {
  const button = document.createElement("button");
  button.role = "tab";
  button.dataset.camera = name;
  button.append(document.createElement("b"), name, document.createElement("kbd"));
  button.querySelector("kbd").textContent = index + 1;
  button.addEventListener("click", () => choose(name));
  return button;
}

function choose(name) {
  if (!cameras.has(name)) return;
  view.camera = name;
  clear(get("picture"));
  for (const kind of ["state", "part", "reject"]) show(cameras.get(name), kind);
}

function show(camera, kind) {
  if (kind === "part") showPart(camera);
  if (kind === "reject") showRejects(camera);
  if (kind === "state") showState(camera);
  showStatus();
}

function showPart({ part }) {
  if (!part) return;
  const missing = !part.picture.length;
  get("no-picture").textContent = missing ? "There is no picture of this part." : "";
  get("open-button").disabled = missing;
  if (missing) clear(get("picture"));
  else draw(get("picture"), part, view.withMap);
  const { record } = part;
  get("part-name").textContent = [record.part_id || record.frame_id, `no. ${record.seq}`, clock(record.utc_ns / 1e6)].join("  ·  ");
  listFindings(get("findings"), findingsOf(record, words));
}

function showScore(part, state) {
  const { score, threshold } = part?.record ?? {};
  const known = typeof score === "number" && typeof threshold === "number";
  document.querySelector(".gauge").hidden = !known;
  get("score").textContent = known ? `score ${score.toFixed(3)}, limit ${threshold.toFixed(3)}` : "";
  const reach = state?.about.span || Math.abs(threshold) || 1;
  if (known) get("needle").style.width = `${Math.min(100, Math.max(2, 50 + (50 * (score - threshold)) / reach))}%`;
}

function showRejects({ rejects }) {
  get("rejects").replaceChildren(...rejects.map(thumbnail));
}

function thumbnail(part) {
  part.thumbnail ??= makeThumbnail(part);
  part.thumbnail.classList.toggle("labelled", Boolean(part.labelled));
  return part.thumbnail;
}

function makeThumbnail(part) {
  const button = document.createElement("button");
  const text = document.createElement("span");
  text.textContent = `✕ ${clock(part.record.utc_ns / 1e6)} · ${part.record.seq}`;
  button.title = sentenceOf(part.record, words);
  button.append(document.createElement("canvas"), text);
  button.addEventListener("click", () => openPart(part, view, cameras.get(view.camera).rejects));
  draw(button.firstChild, part, true, 240);
  return button;
}

function showState({ state }) {
  if (!state) return;
  get("source").textContent = [state.about.engine, state.about.source].filter(Boolean).join(" on ");
  showTrouble(state.troubles);
  showToday(state);
  if (getComputedStyle(get("figures")).display !== "none") showFigures(state, words);
}

/** What is not as it should be, in one line: verdicts may be right all the same. */
function showTrouble(troubles) {
  const texts = [...new Set(troubles.map(({ code }) => words[code] ?? code))];
  setText("trouble", texts.length ? `▲ ${texts.join(" ")}` : "");
  get("trouble").title = troubles.map(({ code, where, detail }) => `${code} ${where}: ${detail}`).join("\n");
}

function showToday(state) {
  const shift = state.shifts[0] ?? { OK: 0, NG: 0, UNKNOWN: 0 };
  const parts = shift.OK + shift.NG + shift.UNKNOWN;
  const yieldText = parts ? `${((100 * shift.OK) / parts).toFixed(1)} %` : "–";
  const figures = [["this shift", parts, ""], ["✓ OK", shift.OK, "ok"], ["✕ NG", shift.NG, "ng"], ["? UNKNOWN", shift.UNKNOWN, "unknown"], ["yield", yieldText, ""]];
  get("today").replaceChildren(...figures.map(([name, value, kind]) => figure(name, value, kind)));
}

function figure(name, value, kind) {
  const box = document.createElement("div");
  const [number, label] = [document.createElement("b"), document.createElement("span")];
  number.textContent = value;
  number.className = kind;
  label.textContent = name;
  box.append(number, label);
  return box;
}

/** The band and the tabs: called with every message, and four times a second without one. */
function showStatus() {
  const now = performance.now();
  const camera = cameras.get(view.camera);
  const { kind, word, sentence } = statusOf(camera, link, now, words);
  const band = get("verdict");
  if (band.dataset.kind !== kind) {
    band.dataset.kind = kind;
    const [shape, mark] = shapeOf(kind);
    get("shape").setAttribute("d", shape);
    get("mark").setAttribute("d", mark);
  }
  setText("word", word);
  get("word").classList.toggle("long", word.length > 8);
  setText("sentence", sentence);
  const certain = ["ok", "ng", "unknown"].includes(kind);
  document.body.toggleAttribute("data-stale", !certain);
  get("part-name").hidden = !certain;
  showScore(certain && word !== "NO CAMERA" ? camera.part : null, camera?.state);
  document.title = `${word} – lad-edge`;
  setText("clock", clock(Date.now()));
  showTabs(now);
}

function showTabs(now) {
  for (const button of get("cameras").children) {
    const { kind, word } = statusOf(cameras.get(button.dataset.camera), link, now, words);
    Object.assign(button.firstChild.dataset, { kind });
    button.firstChild.textContent = kind === "waiting" ? "…" : kind === "stale" ? "–" : word;
    button.setAttribute("aria-selected", button.dataset.camera === view.camera);
  }
}

function setText(id, text) {
  if (get(id).textContent !== text) get(id).textContent = text;
}

function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

function toggleMap() {
  view.withMap = !view.withMap;
  for (const id of ["map-button", "dialog-map"]) get(id).setAttribute("aria-pressed", view.withMap);
  const part = cameras.get(view.camera)?.part;
  if (part) draw(get("picture"), part, view.withMap);
  get("part-dialog").dispatchEvent(new Event("map"));
}

function toggleFigures() {
  const on = document.body.dataset.view !== "figures";
  document.body.dataset.view = on ? "figures" : "line";
  get("figures-button").setAttribute("aria-pressed", on);
  if (cameras.has(view.camera)) showState(cameras.get(view.camera));
}

function chooseTheme(theme) {
  document.documentElement.dataset.theme = theme;
  if (cameras.has(view.camera)) showState(cameras.get(view.camera));
}

function toggleTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", theme);
  chooseTheme(theme);
}

function openNewest() {
  const camera = cameras.get(view.camera);
  if (camera?.part?.picture.length) openPart(camera.part, view, camera.rejects);
}

/** Resolves when somebody has given a token. */
function askForToken() {
  const dialog = get("login-dialog");
  get("login-error").textContent = sessionStorage.getItem("token") ? "This is not the token of this line." : "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    get("login-form").onsubmit = () => {
      sessionStorage.setItem("token", get("token").value.trim());
      get("token").value = "";
      resolve();
    };
  });
}

function setUpKeys() {
  const keys = { m: toggleMap, f: toggleFigures, t: toggleTheme, Enter: openNewest, "?": () => get("help-dialog").showModal() };
  addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey;
    const onButton = event.key === "Enter" && event.target instanceof HTMLButtonElement;
    if (typing || onButton) return;
    if (document.querySelector("dialog[open]") && event.key !== "m") return;
    const action = /^[1-9]$/.test(event.key) ? () => choose(names()[event.key - 1]) : keys[event.key];
    if (!action) return;
    event.preventDefault(); // or the Enter that opens a dialog presses its first button too
    action();
  });
}

function setUp() {
  document.body.dataset.view = "line";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const followSystem = () => chooseTheme(localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light"));
  followSystem();
  dark.addEventListener("change", followSystem);
  const clicks = { "map-button": toggleMap, "dialog-map": toggleMap, "figures-button": toggleFigures, "theme-button": toggleTheme, "open-button": openNewest, picture: openNewest };
  for (const [id, action] of Object.entries(clicks)) get(id).addEventListener("click", action);
  get("help-button").addEventListener("click", () => get("help-dialog").showModal());
  get("login-dialog").addEventListener("cancel", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
  addEventListener("resize", () => cameras.has(view.camera) && showState(cameras.get(view.camera)));
  setUpDialog(view, () => showRejects(cameras.get(view.camera)));
  setUpKeys();
  setInterval(showStatus, TICK_MS);
  showStatus();
}

setUp();
follow({ token: () => sessionStorage.getItem("token"), onMessage: take, onRefused: askForToken });
