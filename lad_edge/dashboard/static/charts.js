// Small charts on canvases, in the colours of the page's style.

const MARGIN = { left: 44, right: 10, top: 6, bottom: 18 };

function begin(canvas) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.max(1, width * ratio);
  canvas.height = Math.max(1, height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  const style = getComputedStyle(canvas);
  const ink = (name) => style.getPropertyValue(`--${name}`).trim();
  const box = { x: MARGIN.left, y: MARGIN.top, width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  return { context, ink, box };
}

function grid({ context, ink, box }, ticks) {
  context.fillStyle = ink("quiet");
  context.strokeStyle = ink("line");
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const { at, text } of ticks) {
    const y = box.y + box.height * (1 - at);
    context.beginPath();
    context.moveTo(box.x, y);
    context.lineTo(box.x + box.width, y);
    context.stroke();
    context.fillText(text, box.x - 6, y);
  }
}

/** Bars on a logarithmic axis in ms; the deadline is a line with its name. */
export function histogram(canvas, latency, deadlineMs) {
  const chart = begin(canvas);
  const { context, ink, box } = chart;
  if (!latency) return nothing(chart);
  const edges = latency.edges_ms;
  const [low, high] = [edges[0], Math.max(edges.at(-1), deadlineMs ? 1.4 * deadlineMs : 0)].map(Math.log);
  const x = (ms) => box.x + (box.width * (Math.log(ms) - low)) / (high - low || 1);
  const most = Math.max(...latency.counts);
  grid(chart, [{ at: 0, text: "0" }, { at: 1, text: String(most) }]);
  latency.counts.forEach((count, index) => {
    const height = count ? Math.max(2, (box.height * count) / most) : 0;
    context.fillStyle = ink(deadlineMs && edges[index] >= deadlineMs ? "ng-ink" : "accent");
    context.fillRect(x(edges[index]) + 0.5, box.y + box.height - height, x(edges[index + 1]) - x(edges[index]) - 1, height);
  });
  context.fillStyle = ink("quiet");
  context.textAlign = "center";
  for (const ms of [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000])
    if (ms >= edges[0] && Math.log(ms) <= high) context.fillText(`${ms} ms`, x(ms), box.y + box.height + 11);
  if (deadlineMs) upright(chart, x(deadlineMs), "deadline");
}

function upright({ context, ink, box }, x, text) {
  context.strokeStyle = context.fillStyle = ink("ng-ink");
  context.lineWidth = 2;
  context.setLineDash([5, 4]);
  context.beginPath();
  context.moveTo(x, box.y);
  context.lineTo(x, box.y + box.height);
  context.stroke();
  context.setLineDash([]);
  context.textAlign = x > box.x + box.width / 2 ? "right" : "left";
  context.fillText(text, x + (context.textAlign === "right" ? -6 : 6), box.y + 8);
}

/** Points by verdict: dots are OK, crosses NG, rings UNKNOWN. `ticks` lie at 0…1 of the height; `limit` is drawn across. */
export function points(canvas, values, { ticks, limit }) {
  const chart = begin(canvas);
  const { context, ink, box } = chart;
  const shown = values.filter((point) => point.at !== null);
  if (!shown.length) return nothing(chart);
  grid(chart, ticks);
  const step = box.width / Math.max(60, values.length);
  values.forEach((point, index) => {
    if (point.at !== null) mark(context, ink, point.verdict, box.x + step * (index + 0.5), box.y + box.height * (1 - clamp(point.at)));
  });
  if (limit === undefined) return;
  context.strokeStyle = ink("text");
  context.setLineDash([5, 4]);
  context.beginPath();
  context.moveTo(box.x, box.y + box.height * (1 - limit));
  context.lineTo(box.x + box.width, box.y + box.height * (1 - limit));
  context.stroke();
  context.setLineDash([]);
}

function mark(context, ink, verdict, x, y) {
  context.fillStyle = context.strokeStyle = ink(`${verdict.toLowerCase()}-ink`);
  context.lineWidth = 2;
  context.beginPath();
  if (verdict === "NG") {
    for (const slope of [-1, 1]) {
      context.moveTo(x - 3.5, y - 3.5 * slope);
      context.lineTo(x + 3.5, y + 3.5 * slope);
    }
    context.stroke();
  } else {
    context.arc(x, y, verdict === "OK" ? 2 : 3, 0, 2 * Math.PI);
    if (verdict === "OK") context.fill();
    else context.stroke();
  }
}

/** Lines over the same parts, each on its own scale around its median; `dashed` tells them apart without colour. */
export function lines(canvas, series) {
  const chart = begin(canvas);
  const { context, ink, box } = chart;
  if (series[0].values.length < 2) return nothing(chart);
  grid(chart, [{ at: 0, text: "−50 %" }, { at: 0.5, text: "usual" }, { at: 1, text: "+50 %" }]);
  for (const { values, colour, dashed } of series) {
    const usual = median(values) || 1;
    const step = box.width / Math.max(60, values.length);
    context.strokeStyle = ink(colour);
    context.lineWidth = 2;
    context.setLineDash(dashed ? [6, 4] : []);
    context.beginPath();
    values.forEach((value, index) => {
      const y = box.y + box.height * (1 - clamp(0.5 + (value - usual) / usual));
      context.lineTo(box.x + step * (index + 0.5), y);
    });
    context.stroke();
    context.setLineDash([]);
  }
}

export function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

function clamp(value) {
  return Math.min(1, Math.max(0, value));
}

function nothing({ context, ink, box }) {
  context.fillStyle = ink("quiet");
  context.textAlign = "center";
  context.fillText("nothing yet", box.x + box.width / 2, box.y + box.height / 2);
}
