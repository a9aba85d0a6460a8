// Parts onto canvases: the picture, the map over it, the regions that were found.

/** The decoded images of a message; made once for each. */
function decoded(part) {
  part.images ??= Promise.all([bitmap(part.picture, "image/jpeg"), bitmap(part.heat, "image/png")]);
  return part.images;
}

function bitmap(bytes, type) {
  return bytes.length ? createImageBitmap(new Blob([bytes], { type })) : null;
}

/** Draws the part; a canvas that has been given a newer part meanwhile is left alone. */
export async function draw(canvas, part, withMap, longestPx = 960) {
  canvas.wanted = part;
  const [picture, heat] = await decoded(part);
  if (canvas.wanted !== part || !picture) return;
  const scale = Math.min(1, longestPx / Math.max(picture.width, picture.height));
  canvas.width = Math.round(scale * picture.width);
  canvas.height = Math.round(scale * picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (withMap) layOver(context, canvas.width / part.width_px, part, heat);
}

function layOver(context, scale, part, heat) {
  if (heat) context.drawImage(heat, ...part.map_box.map((value) => value * scale));
  for (const [width, colour] of [[5, "#000a"], [2, "#fff"]]) {
    context.lineWidth = Math.max(1, (width * context.canvas.width) / 960);
    context.strokeStyle = colour;
    for (const region of part.record.regions)
      context.strokeRect(...[region.x_px, region.y_px, region.width_px, region.height_px].map((value) => value * scale));
  }
}

export function clear(canvas) {
  canvas.wanted = null;
  canvas.width = canvas.height = 1;
}
