// What is drawn over the picture: the client's marks with their numbers, what was said before, the stroke being drawn.

import { el, svg, t } from './base.js';
import { boundsOf, moved, resized } from './geometry.js';

const STEP = 0.01; // of the picture's shorter side, for a press of an arrow key
const TAP_PX = 4;

export class Shapes {
  /** @param {{model, view, svg: the drawing over the picture, badges: the element over the board, focus(id)}} parts */
  constructor(parts) {
    Object.assign(this, parts);
    this.buttons = new Map();
    this.corner = el('button', { type: 'button', class: 'corner', tAria: 'mark.resize', tTitle: 'mark.resize', tabindex: '-1' });
    this.corner.addEventListener('pointerdown', (event) => this.drag(event, this.model.active, resized));
    this.badges.append(this.corner);
    this.shown = null; // a suggestion of an earlier review to point at
    this.quiet = false; // nothing is drawn while two versions are compared
  }

  get marks() {
    return this.model.chosen && !this.quiet ? this.model.draft().marks : [];
  }

  draw() {
    const { version } = this.model;
    if (!version) return this.svg.replaceChildren();
    this.svg.setAttribute('viewBox', `0 0 ${version.width_px} ${version.height_px}`);
    const before = this.quiet ? [] : this.earlier(version.id);
    const own = this.marks.map((mark) => outline(mark, `own${mark.id === this.model.active ? ' active' : ''}`));
    this.stroke = svg('g', { class: 'stroke' });
    this.svg.replaceChildren(...before, ...own, this.stroke);
    this.number();
    return this.place();
  }

  earlier(id) {
    const waiting = this.model.memory.outbox.filter(({ body }) => body.record === id).flatMap(({ body }) => body.suggestions);
    const said = this.model.reviewsOf(id).flatMap((review) => review.suggestions);
    const open = [...said.filter((one) => one.state === 'open' || one.id === this.shown), ...waiting];
    return open.filter((one) => boundsOf(one)).map((one) => outline(one, `said${one.id && one.id === this.shown ? ' shown' : ''}`));
  }

  /** The stroke being drawn: a shape, or open points. */
  sketch(shape, points = null) {
    if (!this.stroke) return;
    if (points) this.stroke.replaceChildren(...pair('polyline', { points: points.map(({ x, y }) => `${x},${y}`).join(' ') }));
    else this.stroke.replaceChildren(...(shape ? [outline(shape, 'own active')] : []));
  }

  number() {
    const ids = new Set(this.marks.map((mark) => mark.id));
    for (const [id, button] of this.buttons) {
      if (ids.has(id)) continue;
      button.remove();
      this.buttons.delete(id);
    }
    this.marks.forEach((mark, index) => {
      let button = this.buttons.get(mark.id);
      if (!button) {
        button = this.badge(mark.id);
        this.buttons.set(mark.id, button);
        this.badges.insertBefore(button, this.corner);
      }
      button.textContent = String(index + 1);
      button.setAttribute('aria-label', t('mark.badge', { number: index + 1, words: mark.prompt || t('mark.unsaid') }));
      button.setAttribute('aria-pressed', String(mark.id === this.model.active));
    });
  }

  badge(id) {
    const button = el('button', { type: 'button', class: 'badge', tTitle: 'mark.move' });
    button.addEventListener('pointerdown', (event) => this.drag(event, id, moved));
    button.addEventListener('click', (event) => { if (event.detail === 0) this.focus(id); }); // by keyboard
    button.addEventListener('focus', () => this.model.activate(id));
    button.addEventListener('keydown', (event) => this.key(event, id));
    return button;
  }

  /** Put numbers and the corner where their marks are now. */
  place() {
    for (const mark of this.marks) {
      const button = this.buttons.get(mark.id); // none yet while a kept drawing is being put there
      if (button) put(button, this.view.toBoard(...anchor(mark)));
    }
    const active = this.marks.find((mark) => mark.id === this.model.active);
    this.corner.hidden = !active?.box;
    if (active?.box) put(this.corner, this.view.toBoard(active.box.right_px, active.box.bottom_px));
  }

  key(event, id) {
    const { model } = this;
    const { width, height } = this.view;
    const by = Math.max(1, Math.round(Math.min(width, height) * STEP));
    const [dx, dy] = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key] ?? [0, 0];
    if (dx || dy) model.editMark(id, (event.shiftKey ? resized : moved)(model.mark(id), dx, dy, width, height), event.repeat);
    else if (event.key === 'Delete' || event.key === 'Backspace') {
      model.removeMark(id);
      this.view.board.focus({ preventScroll: true });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Move or size a mark with the pointer; without a move it is a press, which leads to its words. */
  drag(event, id, change) {
    if (event.button !== 0 || !id) return;
    event.preventDefault();
    event.stopPropagation();
    const { model, view } = this;
    const first = model.mark(id);
    const from = { x: event.clientX, y: event.clientY };
    const node = event.currentTarget;
    let far = false;
    node.setPointerCapture(event.pointerId);
    const move = (now) => {
      const [dx, dy] = [now.clientX - from.x, now.clientY - from.y];
      if (!far && Math.hypot(dx, dy) < TAP_PX) return;
      model.editMark(id, change(first, dx / view.scale, dy / view.scale, view.width, view.height), far);
      far = true;
    };
    const end = (last) => {
      node.removeEventListener('pointermove', move);
      node.removeEventListener('pointerup', end);
      node.removeEventListener('pointercancel', end);
      if (!far && last.type === 'pointerup') this.focus(id);
    };
    node.addEventListener('pointermove', move);
    node.addEventListener('pointerup', end);
    node.addEventListener('pointercancel', end);
    model.activate(id);
  }
}

/** Where the number stands: the corner of a box, the topmost point of a lasso. */
function anchor({ box, lasso }) {
  return lasso ? lasso.reduce((top, point) => (point[1] < top[1] ? point : top)) : [box.left_px, box.top_px];
}

function put(node, { left, top }) {
  node.style.left = `${left}px`;
  node.style.top = `${top}px`;
}

/** A line seen on any picture: a pale one under a coloured one. */
function pair(tag, attributes) {
  return ['under', 'over'].map((name) => svg(tag, { ...attributes, class: name, 'vector-effect': 'non-scaling-stroke' }));
}

function outline({ box, lasso }, name) {
  const lines = lasso
    ? pair('polygon', { points: lasso.map(([x, y]) => `${x + 0.5},${y + 0.5}`).join(' ') })
    : pair('rect', { x: box.left_px, y: box.top_px, width: box.right_px - box.left_px, height: box.bottom_px - box.top_px });
  return svg('g', { class: name }, ...lines);
}
