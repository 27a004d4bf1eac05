// OpenPose's body: 18 points, 17 limbs, their colours, drawn pixel by pixel as `annotators/pose_drawing.py` draws them.

export const POINTS = ['nose', 'neck', 'right_shoulder', 'right_elbow', 'right_wrist', 'left_shoulder', 'left_elbow', 'left_wrist',
  'right_hip', 'right_knee', 'right_ankle', 'left_hip', 'left_knee', 'left_ankle', 'right_eye', 'left_eye', 'right_ear', 'left_ear'];
export const LIMBS = [[1, 2], [1, 5], [2, 3], [3, 4], [5, 6], [6, 7], [1, 8], [8, 9], [9, 10], [1, 11], [11, 12], [12, 13],
  [1, 0], [0, 14], [14, 16], [0, 15], [15, 17]];
export const COLORS = [[255, 0, 0], [255, 85, 0], [255, 170, 0], [255, 255, 0], [170, 255, 0], [85, 255, 0], [0, 255, 0],
  [0, 255, 85], [0, 255, 170], [0, 255, 255], [0, 170, 255], [0, 85, 255], [0, 0, 255], [85, 0, 255], [170, 0, 255],
  [255, 0, 255], [255, 0, 170], [255, 0, 85]];
/** The other side of each point, for a mirror. */
const SIDES = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16];
const STICK = 4;
const SHADE = 0.6;
const DISC = [0, 2, 3, 3, 4, 3, 3, 2, 0]; // half the width of each row of OpenCV's disc of radius 4

// Starting poses: x from the middle, y from the top, the figure is about 1 high; a third number 0 hides the point.
const HEAD = [[-0.022, 0.05], [0.022, 0.05], [-0.05, 0.06], [0.05, 0.06]];
const LEGS = [[-0.065, 0.49], [-0.07, 0.72], [-0.075, 0.95], [0.065, 0.49], [0.07, 0.72], [0.075, 0.95]];
export const POSES = {
  standing: [[0, 0.07], [0, 0.18], [-0.11, 0.18], [-0.14, 0.335], [-0.15, 0.48], [0.11, 0.18], [0.14, 0.335], [0.15, 0.48], ...LEGS, ...HEAD],
  walking: [[0.035, 0.08], [0, 0.18], [-0.075, 0.19], [-0.15, 0.32], [-0.13, 0.46], [0.07, 0.18], [0.13, 0.31], [0.22, 0.41],
    [-0.045, 0.49], [0.08, 0.68], [0.12, 0.93], [0.045, 0.49], [-0.02, 0.72], [-0.19, 0.9], [0.018, 0.06], [0.05, 0.062], [-0.02, 0.07], [0.06, 0.075, 0]],
  sitting: [[-0.075, 0.1], [-0.12, 0.2], [-0.205, 0.21], [-0.2, 0.37], [-0.04, 0.46], [-0.035, 0.2], [0.005, 0.36], [0.12, 0.45],
    [-0.185, 0.55], [0.05, 0.58], [0.045, 0.9], [-0.085, 0.545], [0.16, 0.56], [0.18, 0.87], [-0.095, 0.08], [-0.055, 0.08], [-0.14, 0.09], [-0.035, 0.085, 0]],
  arms_up: [[0, 0.07], [0, 0.18], [-0.11, 0.18], [-0.2, 0.07], [-0.17, -0.09], [0.11, 0.18], [0.2, 0.07], [0.17, -0.09], ...LEGS, ...HEAD],
};

const bounds = (points) => {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) };
};

/** The box around the points of a person that are seen; around all of them where none is. */
export function boxOf(person) {
  const seen = person.filter(([, , on]) => on);
  return bounds(seen.length ? seen : person);
}

/** One of POSES on a frame, its middle at a share of the width. */
export function figure(name, width, height, at = 0.5) {
  const points = POSES[name];
  const { left, top, right, bottom } = bounds(points);
  const scale = Math.min((height * 0.86) / (bottom - top), (width * 0.8) / (right - left));
  const x0 = width * at - ((left + right) / 2) * scale;
  const y0 = height / 2 - ((top + bottom) / 2) * scale;
  return points.map(([x, y, on = 1]) => [x0 + x * scale, y0 + y * scale, on]);
}

export const moved = (person, dx, dy) => person.map(([x, y, on]) => [x + dx, y + dy, on]);

/** Larger or smaller about a place. */
export const scaled = (person, factor, cx, cy) => person.map(([x, y, on]) => [cx + (x - cx) * factor, cy + (y - cy) * factor, on]);

/** As in a mirror: what was the right arm is the left one. */
export function mirrored(person) {
  const { left, right } = boxOf(person);
  return SIDES.map((side) => [left + right - person[side][0], person[side][1], person[side][2]]);
}

/** The outline of the ellipse between two points, in whole pixels. */
function ellipse([x0, y0], [x1, y1]) {
  const mx = Math.trunc((x0 + x1) / 2);
  const my = Math.trunc((y0 + y1) / 2);
  const long = Math.trunc(Math.hypot(x0 - x1, y0 - y1) / 2);
  const turn = (Math.trunc((Math.atan2(y0 - y1, x0 - x1) * 180) / Math.PI) * Math.PI) / 180;
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  return Array.from({ length: 361 }, (_, degree) => {
    const x = long * Math.cos((degree * Math.PI) / 180);
    const y = STICK * Math.sin((degree * Math.PI) / 180);
    return [Math.round(mx + x * cos - y * sin), Math.round(my + x * sin + y * cos)];
  });
}

/** First and last pixel of each row of a convex outline. */
function rows(outline) {
  const found = new Map();
  const mark = (x, y) => {
    const row = found.get(y);
    if (!row) found.set(y, [x, x]);
    else if (x < row[0]) row[0] = x;
    else if (x > row[1]) row[1] = x;
  };
  for (let i = 1; i < outline.length; i += 1) {
    const [[x0, y0], [x1, y1]] = [outline[i - 1], outline[i]];
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0)) || 1;
    for (let k = 0; k <= steps; k += 1) mark(Math.floor(x0 + ((x1 - x0) * k) / steps + 0.5), Math.floor(y0 + ((y1 - y0) * k) / steps + 0.5));
  }
  return found;
}

/** The map of some people: an ImageData; what is not drawn is black, or with `open` transparent. */
export function drawPeople(people, width, height, open = false) {
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer); // bytes R, G, B, A on every machine with a browser
  const ink = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
  if (!open) words.fill(ink([0, 0, 0]));
  const row = (y, from, to, color) => {
    if (y >= 0 && y < height && to >= 0) words.fill(color, y * width + Math.max(0, from), y * width + Math.min(width, to + 1));
  };
  for (const person of people) {
    LIMBS.forEach(([a, b], i) => {
      if (!person[a][2] || !person[b][2]) return;
      const color = ink(COLORS[i].map((part) => Math.trunc(part * SHADE)));
      for (const [y, [from, to]] of rows(ellipse(person[a], person[b]))) if (from < width) row(y, from, to, color);
    });
    person.forEach(([x, y, on], i) => {
      const [cx, cy] = [Math.trunc(x), Math.trunc(y)];
      if (on) DISC.forEach((half, n) => cx - half < width && row(cy + n - STICK, cx - half, cx + half, ink(COLORS[i])));
    });
  }
  return image;
}
