// Boxes {left, top, right, bottom} in picture pixels: handles, resizing, and snapping of edges to lines with guides.

export const HANDLES = { nw: [-1, -1], n: [0, -1], ne: [1, -1], e: [1, 0], se: [1, 1], s: [0, 1], sw: [-1, 1], w: [-1, 0] };
const LEAST = 4;

export const contains = ({ left, top, right, bottom }, { x, y }) => x >= left && x <= right && y >= top && y <= bottom;
export const areaOf = ({ left, top, right, bottom }) => (right - left) * (bottom - top);
const within = (value, low, high) => Math.min(high, Math.max(low, value));

/** The box between two places, inside the frame. */
export function between(a, b, { width, height }) {
  const [x0, x1] = [a.x, b.x].map((x) => within(x, 0, width)).sort((p, q) => p - q);
  const [y0, y1] = [a.y, b.y].map((y) => within(y, 0, height)).sort((p, q) => p - q);
  return { left: x0, top: y0, right: x1, bottom: y1 };
}

export const shifted = ({ left, top, right, bottom }, dx, dy) => ({ left: left + dx, top: top + dy, right: right + dx, bottom: bottom + dy });

/** Brought back into the frame without a change of size; one that is larger than the frame begins at its corner. */
export function kept(box, { width, height }) {
  const dx = Math.max(-box.left, Math.min(0, width - box.right));
  const dy = Math.max(-box.top, Math.min(0, height - box.bottom));
  return shifted(box, dx, dy);
}

/** Where a handle of a box is. */
export function handleAt(box, name) {
  const [h, v] = HANDLES[name];
  return { x: (box.left + box.right + h * (box.right - box.left)) / 2, y: (box.top + box.bottom + v * (box.bottom - box.top)) / 2 };
}

/** The handle of a box within reach of a place, corners before edges; or null. */
export function handleNear(box, { x, y }, reach) {
  const near = (name) => {
    const at = handleAt(box, name);
    return Math.hypot(at.x - x, at.y - y) <= reach;
  };
  return ['nw', 'ne', 'se', 'sw', 'n', 'e', 's', 'w'].find(near) ?? null;
}

/** The edges that a handle moves: a subset of left, top, right, bottom. */
export const edgesOf = (handle) => [handle.includes('w') && 'left', handle.includes('e') && 'right', handle.includes('n') && 'top', handle.includes('s') && 'bottom'].filter(Boolean);

/** A box whose handle was moved by dx, dy; its other edges stay, and it stays in the frame. */
export function resized(box, handle, dx, dy, { width, height }) {
  const made = { ...box };
  const edges = edgesOf(handle);
  if (edges.includes('left')) made.left = within(box.left + dx, 0, box.right - LEAST);
  if (edges.includes('right')) made.right = within(box.right + dx, box.left + LEAST, width);
  if (edges.includes('top')) made.top = within(box.top + dy, 0, box.bottom - LEAST);
  if (edges.includes('bottom')) made.bottom = within(box.bottom + dy, box.top + LEAST, height);
  return made;
}

/** What edges can snap to: the edges and the middle of the frame and of other boxes. */
export function linesOf({ width, height }, others) {
  return {
    x: [0, width / 2, width, ...others.flatMap(({ left, right }) => [left, (left + right) / 2, right])],
    y: [0, height / 2, height, ...others.flatMap(({ top, bottom }) => [top, (top + bottom) / 2, bottom])],
  };
}

/** The smallest step that brings one of the values onto a line, with that line; null where none is in reach. */
function nearest(values, lines, reach) {
  let best = null;
  for (const value of values) {
    for (const line of lines) {
      const step = line - value;
      if (Math.abs(step) <= reach && (best === null || Math.abs(step) < Math.abs(best.step))) best = { step, line };
    }
  }
  return best;
}

/** A moved box snapped as a whole by its edges or its middle; gives {box, guides: {x, y}}. */
export function snapMoved(box, lines, reach) {
  const x = nearest([box.left, (box.left + box.right) / 2, box.right], lines.x, reach);
  const y = nearest([box.top, (box.top + box.bottom) / 2, box.bottom], lines.y, reach);
  return { box: shifted(box, x?.step ?? 0, y?.step ?? 0), guides: { x: x ? [x.line] : [], y: y ? [y.line] : [] } };
}

/** A box of which these edges move, each snapped on its own. */
export function snapEdges(box, edges, lines, reach) {
  const made = { ...box };
  const guides = { x: [], y: [] };
  for (const edge of edges) {
    const axis = edge === 'left' || edge === 'right' ? 'x' : 'y';
    const found = nearest([box[edge]], lines[axis], reach);
    if (!found) continue;
    made[edge] = found.line;
    guides[axis].push(found.line);
  }
  return made.right - made.left < LEAST || made.bottom - made.top < LEAST ? { box, guides: { x: [], y: [] } } : { box: made, guides };
}
