// OpenPose's JSON ↔ people: [[x, y, seen], …] with 18 points each.
import { POINTS, boxOf, figure, moved, scaled } from './skeleton.js';

const BODY_25 = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18];
export const MOST = 10;

/** People of a file's text on a frame of this size; throws where it is something else. */
export function readPeople(text, width, height) {
  const data = JSON.parse(text);
  const sheet = Array.isArray(data) ? data[0] : data;
  const bodies = sheet.people.slice(0, MOST).map((person) => joints(person.pose_keypoints_2d)).filter((body) => body.some(([, , on]) => on));
  if (!bodies.length) throw new Error('nobody');
  const [w, h] = canvasOf(sheet, bodies, width, height);
  const scale = Math.min(width / w, height / h);
  const [dx, dy] = [(width - w * scale) / 2, (height - h * scale) / 2];
  return bodies.map((body) => whole(body.map(([x, y, on]) => [x * scale + dx, y * scale + dy, on]), width, height));
}

function joints(numbers) {
  if (!Array.isArray(numbers) || ![54, 75].includes(numbers.length) || !numbers.every(Number.isFinite)) throw new Error('points');
  const places = numbers.length === 54 ? POINTS.keys() : BODY_25;
  return [...places].map((n) => [numbers[3 * n], numbers[3 * n + 1], numbers[3 * n + 2] > 0 ? 1 : 0]);
}

/** The size that the coordinates are meant for: as written, shares of 1, this frame if they fit, else what holds them. */
function canvasOf(sheet, bodies, width, height) {
  const seen = bodies.flat().filter(([, , on]) => on);
  const [right, bottom] = [Math.max(...seen.map(([x]) => x)), Math.max(...seen.map(([, y]) => y))];
  if (right <= 1 && bottom <= 1) return [1, 1];
  if (sheet.canvas_width > 0 && sheet.canvas_height > 0) return [sheet.canvas_width, sheet.canvas_height];
  return right <= width && bottom <= height ? [width, height] : [right * 1.05, bottom * 1.05];
}

/** Points that the file does not show get a place where they may be shown: that of a standing figure of this size. */
function whole(body, width, height) {
  const shown = body.map(([, , on]) => on);
  let guess = figure('standing', width, height);
  const same = guess.map(([x, y], n) => [x, y, shown[n]]);
  const [from, to] = [boxOf(same), boxOf(body)];
  const factor = (to.bottom - to.top) / (from.bottom - from.top || 1) || 1;
  guess = scaled(guess, Math.min(4, Math.max(0.1, factor)), from.left, from.top);
  guess = moved(guess, to.left - from.left, to.top - from.top);
  return body.map((point, n) => (point[2] ? point : [guess[n][0], guess[n][1], 0]));
}

/** The people as OpenPose writes them; what is hidden is 0, 0, 0. */
export function writePeople(people, width, height) {
  const round = (value) => Math.round(value * 100) / 100;
  return JSON.stringify({
    people: people.map((person) => ({ pose_keypoints_2d: person.flatMap(([x, y, on]) => (on ? [round(x), round(y), 1] : [0, 0, 0])) })),
    canvas_width: width,
    canvas_height: height,
  });
}
