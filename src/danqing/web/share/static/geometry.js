// Shapes on a picture, in its pixels: boxes are half open, lassos are lists of [x, y] inside the picture. Nothing here knows the page.

const MAX_POINTS = 200;

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The box between two points, at least one pixel, inside a picture of this size. */
export function boxBetween(a, b, width, height) {
  const left = clamp(Math.round(Math.min(a.x, b.x)), 0, width - 1);
  const top = clamp(Math.round(Math.min(a.y, b.y)), 0, height - 1);
  return {
    left_px: left,
    top_px: top,
    right_px: clamp(Math.round(Math.max(a.x, b.x)), left + 1, width),
    bottom_px: clamp(Math.round(Math.max(a.y, b.y)), top + 1, height),
  };
}

/** The small box that a tap makes: an eighth of the shorter side, moved inside the picture. */
export function pinAt(point, width, height) {
  const side = clamp(Math.round(Math.min(width, height) / 8), Math.min(16, width, height), Math.min(width, height));
  const left = clamp(Math.round(point.x - side / 2), 0, width - side);
  const top = clamp(Math.round(point.y - side / 2), 0, height - side);
  return { left_px: left, top_px: top, right_px: left + side, bottom_px: top + side };
}

/** A drawn line as the corners of a polygon; null where it encloses nothing. `tolerance` in picture pixels. */
export function lassoOf(drawn, width, height, tolerance) {
  let reach = tolerance;
  let kept = simplified(drawn, reach);
  while (kept.length > MAX_POINTS) kept = simplified(drawn, (reach *= 1.5));
  const points = [];
  for (const { x, y } of kept) {
    const corner = [clamp(Math.round(x), 0, width - 1), clamp(Math.round(y), 0, height - 1)];
    const last = points.at(-1);
    if (!last || last[0] !== corner[0] || last[1] !== corner[1]) points.push(corner);
  }
  return points.length >= 3 && area(points) >= 4 ? points : null;
}

/** Ramer 1972, Douglas and Peucker 1973: leave out what lies nearer than `tolerance` to the stretch between its neighbours. */
function simplified(points, tolerance) {
  const keep = new Set([0, points.length - 1]);
  const open = [[0, points.length - 1]];
  while (open.length) {
    const [first, last] = open.pop();
    let [far, at] = [tolerance, -1];
    for (let index = first + 1; index < last; index += 1) {
      const away = distance(points[index], points[first], points[last]);
      if (away > far) [far, at] = [away, index];
    }
    if (at < 0) continue;
    keep.add(at);
    open.push([first, at], [at, last]);
  }
  return points.filter((_, index) => keep.has(index));
}

/** From a point to the nearest one between a and b; a ring ends where it began, so beyond them is far. */
function distance(point, a, b) {
  const [across, down] = [b.x - a.x, b.y - a.y];
  const along = ((point.x - a.x) * across + (point.y - a.y) * down) / (across * across + down * down || 1);
  const part = clamp(along, 0, 1);
  return Math.hypot(point.x - a.x - part * across, point.y - a.y - part * down);
}

function area(points) {
  const twice = points.reduce((sum, [x, y], index) => {
    const [u, v] = points[(index + 1) % points.length];
    return sum + x * v - u * y;
  }, 0);
  return Math.abs(twice) / 2;
}

/** Left, top, right, bottom (half open) of a mark, or null where it means the whole picture. */
export function boundsOf({ box, lasso }) {
  if (lasso) {
    const [xs, ys] = [lasso.map(([x]) => x), lasso.map(([, y]) => y)];
    return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs) + 1, bottom: Math.max(...ys) + 1 };
  }
  return box ? { left: box.left_px, top: box.top_px, right: box.right_px, bottom: box.bottom_px } : null;
}

/** The same shape elsewhere, kept inside the picture. */
export function moved(shape, dx, dy, width, height) {
  const { left, top, right, bottom } = boundsOf(shape);
  const across = clamp(Math.round(dx), -left, width - right);
  const down = clamp(Math.round(dy), -top, height - bottom);
  if (shape.lasso) return { lasso: shape.lasso.map(([x, y]) => [x + across, y + down]) };
  return { box: { left_px: left + across, top_px: top + down, right_px: right + across, bottom_px: bottom + down } };
}

/** A box with its right lower corner elsewhere. A lasso keeps its size. */
export function resized(shape, dx, dy, width, height) {
  if (!shape.box) return shape;
  const { left_px, top_px, right_px, bottom_px } = shape.box;
  return {
    box: {
      left_px,
      top_px,
      right_px: clamp(Math.round(right_px + dx), left_px + 1, width),
      bottom_px: clamp(Math.round(bottom_px + dy), top_px + 1, height),
    },
  };
}
