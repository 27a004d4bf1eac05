// Painted areas of regions: each a small canvas with ink in the region's colour; a change makes a new canvas, so that undo can keep the old one.
import { el } from './base.js';
import { Mask } from './mask.js';

const MOST = 1024; // the longer side: an area is smooth, and its edge is feathered anyway
const SEEN = 64; // an alpha of a quarter, as in mask.js

/** A Mask without a cursor of its own. @param size {width, height} of the frame @param tint RGB */
export function freshArea({ width, height }, tint) {
  const scale = Math.min(1, MOST / Math.max(width, height));
  const canvas = el('canvas', { class: 'dq-region-area' });
  const area = new Mask(canvas, el('i'), () => {}, tint);
  area.reset(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  return area;
}

/** The same area on a canvas of its own, of the frame's shape. */
export function copyOf(area, frame, tint) {
  const copy = freshArea(frame, tint);
  copy.context.drawImage(area.canvas, 0, 0, copy.canvas.width, copy.canvas.height);
  return copy;
}

/** The area with what lay in one box now in another; boxes in pixels of the frame. */
export function movedArea(area, from, to, frame, tint) {
  const made = freshArea(frame, tint);
  const [sx, sy] = [area.canvas.width / frame.width, area.canvas.height / frame.height];
  const [tx, ty] = [made.canvas.width / frame.width, made.canvas.height / frame.height];
  const part = [from.left * sx, from.top * sy, (from.right - from.left) * sx, (from.bottom - from.top) * sy];
  if (part[2] < 1 || part[3] < 1) return area;
  made.context.drawImage(area.canvas, ...part, to.left * tx, to.top * ty, (to.right - to.left) * tx, (to.bottom - to.top) * ty);
  return made;
}

/** A line of the brush, in pixels of the frame. */
export function stroke(area, from, to, { size, erase, frame }) {
  const scale = area.canvas.width / frame.width;
  area.size = Math.max(1, size * scale);
  const place = ({ x, y }) => ({ x: x * scale, y: y * scale });
  area.stroke(place(from), place(to), erase);
}

/** Fill the outline that a lasso drew. */
export function fill(area, places, frame) {
  const scale = area.canvas.width / frame.width;
  const { context } = area;
  context.globalCompositeOperation = 'source-over';
  context.fillStyle = `rgb(${area.tint.join(' ')})`;
  context.beginPath();
  for (const { x, y } of places) context.lineTo(x * scale, y * scale);
  context.closePath();
  context.fill();
}

/** The box around what is painted, in pixels of the frame; null where nothing is. */
export function boxAround(area, frame) {
  const { width, height } = area.canvas;
  const { data } = area.image();
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (data[(y * width + x) * 4 + 3] <= SEEN) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
  }
  if (right <= left) return null;
  const [sx, sy] = [frame.width / width, frame.height / height];
  return { left: left * sx, top: top * sy, right: right * sx, bottom: bottom * sy };
}

/** Whether something is painted at a place of the frame. */
export function isPainted(area, { x, y }, frame) {
  const { width, height } = area.canvas;
  const [px, py] = [Math.floor((x * width) / frame.width), Math.floor((y * height) / frame.height)];
  if (px < 0 || py < 0 || px >= width || py >= height) return false;
  return area.context.getImageData(px, py, 1, 1).data[3] > SEEN;
}
