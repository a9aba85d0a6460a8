// Messages of the server (messages.py): three little-endian u32 lengths, then a head of JSON, a JPEG and a PNG.

const LENGTHS_BYTES = 12;
const RETRY_MS = 1000;
const SILENT_MS = 4000; // then the connection is dead, whatever the network says

/** The stream for ever: reconnects, asks for the token when the server wants one. */
export async function follow({ token, onMessage, onRefused }) {
  for (;;) {
    const ending = new AbortController();
    try {
      const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
      const answer = await fetch("feed", { headers, signal: ending.signal, cache: "no-store" });
      if (answer.status === 401) await onRefused();
      else if (answer.ok) await readAll(answer.body.getReader(), ending, onMessage);
    } catch {
      // the server is gone or restarting: the page says so by itself, and tries again
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS * (0.5 + Math.random())));
  }
}

async function readAll(reader, ending, onMessage) {
  let rest = new Uint8Array(0);
  for (;;) {
    const silence = setTimeout(() => ending.abort(), SILENT_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    rest = joined(rest, value);
    for (let message; (message = parse(rest)); rest = rest.subarray(message.bytes)) hand(message, onMessage);
  }
}

/** A message that cannot be shown is a fault of the page, not of the connection. */
function hand(message, onMessage) {
  try {
    onMessage(message);
  } catch (error) {
    reportError(error);
  }
}

function parse(data) {
  if (data.length < LENGTHS_BYTES) return null;
  const view = new DataView(data.buffer, data.byteOffset);
  const [head, picture, heat] = [0, 4, 8].map((offset) => view.getUint32(offset, true));
  const bytes = LENGTHS_BYTES + head + picture + heat;
  if (data.length < bytes) return null;
  const at = (from, length) => data.slice(LENGTHS_BYTES + from, LENGTHS_BYTES + from + length);
  return { ...JSON.parse(new TextDecoder().decode(at(0, head))), picture: at(head, picture), heat: at(head + picture, heat), bytes };
}

function joined(first, second) {
  if (!first.length) return second;
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
