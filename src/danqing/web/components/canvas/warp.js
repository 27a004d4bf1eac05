// A quick look at where pulls lead: the picture bent in the browser, small enough to follow the hand. It is not what is painted.

const SIDE = 288; // px of the longer side
const WIDE = 0.3; // share of the shorter side that a small pull reaches
const STEEP = 1.8; // a pull reaches at least this many times its own length: less would fold the picture

/** A picture scaled down for bending: {pixels: ImageData, scale: its pixels for each of the picture's}. */
export function smallOf(image, width, height) {
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return { pixels: context.getImageData(0, 0, canvas.width, canvas.height), scale };
}

/** How much each pixel may change, 0 to 255, from the mask's canvas; null where nothing is painted: all of it. */
export function freedomOf(canvas, { width, height }) {
  const small = document.createElement('canvas');
  small.width = width;
  small.height = height;
  const context = small.getContext('2d', { willReadFrequently: true });
  context.drawImage(canvas, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const free = new Uint8Array(width * height);
  for (let i = 0; i < free.length; i += 1) free[i] = data[i * 4 + 3];
  return free.some((alpha) => alpha > 64) ? free : null;
}

/**
 * The picture with each handle's surroundings at its target: for each pixel, the weighted mean (inverse square of the
 * distance) of the pulls back, each fading to nothing at its reach.
 * @param source ImageData @param pulls [{from, to}] in its pixels @param free Uint8Array or null
 */
export function bent(source, pulls, free) {
  const { width, height, data } = source;
  const made = new ImageData(new Uint8ClampedArray(data), width, height);
  const reaches = pulls.map(({ from, to }) => {
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    return { x: to.x, y: to.y, dx, dy, reach: Math.max(WIDE * Math.min(width, height), STEEP * Math.hypot(dx, dy)) ** 2 };
  });
  if (!reaches.some(({ dx, dy }) => dx || dy)) return made;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = y * width + x;
      const loose = free ? free[at] / 255 : 1;
      if (loose === 0) continue;
      let [sum, vx, vy] = [0, 0, 0];
      for (const pull of reaches) {
        const away = (x - pull.x) ** 2 + (y - pull.y) ** 2;
        const weight = 1 / (away + 0.01);
        sum += weight;
        if (away >= pull.reach) continue;
        const fade = weight * (1 - away / pull.reach) ** 2;
        vx += fade * pull.dx;
        vy += fade * pull.dy;
      }
      if (vx || vy) sample(data, width, height, x - (vx / sum) * loose, y - (vy / sum) * loose, made.data, at * 4);
    }
  }
  return made;
}

/** Bilinear; a place outside takes the border's colour. */
function sample(data, width, height, x, y, out, at) {
  const px = Math.min(width - 1, Math.max(0, x));
  const py = Math.min(height - 1, Math.max(0, y));
  const [x0, y0] = [Math.floor(px), Math.floor(py)];
  const [x1, y1] = [Math.min(width - 1, x0 + 1), Math.min(height - 1, y0 + 1)];
  const [fx, fy] = [px - x0, py - y0];
  for (let c = 0; c < 4; c += 1) {
    const top = data[(y0 * width + x0) * 4 + c] * (1 - fx) + data[(y0 * width + x1) * 4 + c] * fx;
    const bottom = data[(y1 * width + x0) * 4 + c] * (1 - fx) + data[(y1 * width + x1) * 4 + c] * fx;
    out[at + c] = top * (1 - fy) + bottom * fy;
  }
}
