// The pointer in the pose editor: it takes a joint, a whole figure, or a corner of its frame.
import { moved, scaled } from './skeleton.js';

const REACH = 14; // screen pixels around a joint
const FINGER = 24;

export class Pointing {
  /** @param editor PoseEditor */
  constructor(editor) {
    this.editor = editor;
    this.held = null;
  }

  tool() {
    return {
      name: 'pose',
      down: (place, event) => this.down(place, event),
      move: (place, event) => this.move(place, event),
      hover: () => {},
      up: () => this.up(),
      cancel: () => this.cancel(),
      key: (event) => this.editor.key(event),
    };
  }

  down(place, event) {
    const { editor } = this;
    const reach = (event.pointerType === 'touch' ? FINGER : REACH) / editor.easel.viewport.scale;
    const joint = this.jointAt(place, reach);
    const corner = joint ? null : this.cornerAt(place, reach);
    const person = joint || corner ? null : this.personAt(place);
    if (joint) editor.select(...joint);
    else if (person !== null) editor.select(person, null);
    const kind = (joint && 'joint') || (corner && 'corner') || (person !== null && 'person') || 'board';
    this.held = { kind, place, corner, before: editor.snapshot(), start: editor.current, last: { x: event.clientX, y: event.clientY }, moved: false };
  }

  /** [person, joint] under the pointer, the chosen person's first; or null. */
  jointAt({ x, y }, reach) {
    const { people, person } = this.editor;
    let best = null;
    people.forEach((points, n) => points.forEach(([px, py, on], joint) => {
      const away = Math.hypot(px - x, py - y) * (n === person ? 1 : 1.5) * (on ? 1 : 1.2);
      if (away <= reach && (!best || away < best.away)) best = { away, found: [n, joint] };
    }));
    return best?.found ?? null;
  }

  /** The corner that stays where it is while the one under the pointer is dragged; or null. */
  cornerAt({ x, y }, reach) {
    const { editor } = this;
    if (!editor.current) return null;
    const { left, top, right, bottom } = editor.frameOf(editor.current);
    const corners = [[left, top, right, bottom], [right, top, left, bottom], [left, bottom, right, top], [right, bottom, left, top]];
    const found = corners.find(([cx, cy]) => Math.hypot(cx - x, cy - y) <= reach);
    return found ? { x: found[2], y: found[3], size: Math.hypot(found[0] - found[2], found[1] - found[3]) } : null;
  }

  personAt({ x, y }) {
    const { editor } = this;
    const inside = (person) => {
      const { left, top, right, bottom } = editor.frameOf(person);
      return x >= left && x <= right && y >= top && y <= bottom;
    };
    if (editor.current && inside(editor.current)) return editor.person;
    const found = editor.people.findIndex(inside);
    return found < 0 ? null : found;
  }

  move(place, event) {
    const { held, editor } = this;
    if (!held) return;
    if (held.kind === 'board') {
      editor.easel.viewport.pan(event.clientX - held.last.x, event.clientY - held.last.y);
      held.last = { x: event.clientX, y: event.clientY };
      return;
    }
    const away = Math.hypot(event.clientX - held.last.x, event.clientY - held.last.y);
    if (!held.moved && away < 2) return;
    if (!held.moved) editor.keep(held.before);
    held.moved = true;
    editor.people[editor.person] = this.dragged(place);
    editor.draw();
  }

  dragged(place) {
    const { kind, start, corner, place: from } = this.held;
    const [dx, dy] = [place.x - from.x, place.y - from.y];
    if (kind === 'person') return moved(start, dx, dy);
    if (kind === 'corner') {
      const factor = Math.hypot(place.x - corner.x, place.y - corner.y) / corner.size;
      return scaled(start, Math.max(0.1, factor), corner.x, corner.y);
    }
    const { joint } = this.editor;
    return start.map((point, n) => (n === joint ? [point[0] + dx, point[1] + dy, point[2]] : point));
  }

  up() {
    this.held = null;
    this.editor.draw();
  }

  /** A second finger came: what the first one did is taken back. */
  cancel() {
    const { held, editor } = this;
    this.held = null;
    if (held?.moved) editor.step('back');
  }
}
