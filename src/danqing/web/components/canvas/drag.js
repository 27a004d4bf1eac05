// The pulls of a drag: handles and targets in picture pixels, their place in the form, undo and redo.
import { el, t, toast } from './base.js';
import { clearErrors } from './fields.js';
import { Undo } from './undo.js';

export const MAX = 32;
const MEMORY = 2 ** 20;

export class Drag {
  /** @param app {set(values), value} */
  constructor(app) {
    this.app = app;
    this.pulls = []; // {from: {x, y}, to: {x, y}}
    this.chosen = null; // {index, end: 'from' or 'to'}
    this.past = new Undo(MEMORY);
    this.watchers = new Set();
    this.count = el('p', {});
    this.wipe = el('button', { type: 'button', class: 'dq-act', t: 'g.clear', onclick: () => this.clear() });
    this.node = el('section', { class: 'dq-extra dq-drag-section', id: 'f-points', tAria: 'g.title' },
      el('h3', { t: 'g.title' }), el('p', { class: 'dq-tip', t: 'g.tip' }), this.count, el('div', { class: 'dq-row' }, this.wipe), el('p', { class: 'dq-tip', t: 'g.mask.tip' }));
    this.show();
  }

  relabel() {
    this.show();
  }

  get size() {
    const { width_px: width = 1, height_px: height = 1 } = this.app.value.image ?? {};
    return { width, height };
  }

  asked() {
    return this.pulls.map(({ from, to }) => ({ from_x_px: from.x, from_y_px: from.y, to_x_px: to.x, to_y_px: to.y }));
  }

  /** A place as whole pixels inside the picture. */
  inside({ x, y }) {
    const { width, height } = this.size;
    const fit = (value, side) => Math.min(side - 1, Math.max(0, Math.floor(value)));
    return { x: fit(x, width), y: fit(y, height) };
  }

  tell() {
    this.app.set({ points: this.asked() });
    this.show();
  }

  show() {
    const pins = this.pulls.filter(({ from, to }) => from.x === to.x && from.y === to.y).length;
    this.count.textContent = this.pulls.length ? t('g.count', { pulls: this.pulls.length - pins, pins }) : t('g.none');
    this.wipe.hidden = this.pulls.length === 0;
    for (const watcher of this.watchers) watcher();
  }

  snapshot() {
    return { data: JSON.stringify(this.pulls) };
  }

  remember(before = this.snapshot()) {
    this.past.push(before);
    clearErrors();
  }

  step(way) {
    const found = this.past[way](this.snapshot());
    if (!found) return;
    this.pulls = JSON.parse(found.data);
    if (this.chosen && this.chosen.index >= this.pulls.length) this.chosen = null;
    this.tell();
  }

  /** A new pull, its target chosen; false where there are too many. */
  add(from, to) {
    if (this.pulls.length >= MAX) {
      toast(t('g.full'));
      return false;
    }
    this.pulls.push({ from: this.inside(from), to: this.inside(to) });
    this.chosen = { index: this.pulls.length - 1, end: 'to' };
    return true;
  }

  /** Put the chosen end to a place. */
  place(place) {
    if (this.chosen) this.pulls[this.chosen.index][this.chosen.end] = this.inside(place);
  }

  choose(chosen) {
    this.chosen = chosen;
    this.show();
  }

  remove() {
    if (!this.chosen) return;
    this.remember();
    this.pulls.splice(this.chosen.index, 1);
    this.chosen = null;
    this.tell();
  }

  clear() {
    if (!this.pulls.length) return;
    this.remember();
    this.pulls = [];
    this.chosen = null;
    this.tell();
  }

  /** Put the points of a Request here, or none for another picture. */
  setAll(points) {
    this.pulls = points.map((point) => ({ from: { x: point.from_x_px, y: point.from_y_px }, to: { x: point.to_x_px, y: point.to_y_px } }));
    this.chosen = null;
    this.past.clear();
    this.tell();
  }
}
