// Two pictures in one place with a divider that wipes between them, or their difference. A module of its own: any page can mount it.
import { el, iconButton, t } from './base.js';

const STEP = 5; // percent for each press of an arrow key

/**
 * Show two pictures in an element; it takes the element's size.
 * @param element where @param options {before, after: addresses, labels: {before, after, handle} (words; ours where they
 * are missing), place: where the old picture lies in the new one as CSS inset, fit: CSS object-fit of the old one,
 * anywhere: whether a press beside the divider moves it too (default true)}
 * @returns {node, set(percent), get(), difference(on), destroy()}
 */
export function mount(element, { before, after, labels = {}, place = '0', fit = 'contain', anywhere = true }) {
  const picture = (name, address, alt) => el('img', { class: `dq-compare-picture ${name}`, src: address, alt, draggable: 'false' });
  const words = { before: t('v.before'), after: t('v.after'), handle: t('v.handle'), ...labels };
  const old = el('div', { class: 'dq-compare-place' }, picture('before', before, words.before));
  old.firstChild.style.objectFit = fit;
  old.style.inset = place;
  const lower = el('div', { class: 'dq-compare-before' }, old);
  const upper = el('div', { class: 'dq-compare-after' }, picture('after', after, words.after));
  const handle = el('button', { type: 'button', class: 'dq-compare-handle', role: 'slider', 'aria-label': words.handle, 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-orientation': 'horizontal' });
  const node = el('div', { class: 'dq-compare' }, lower, upper,
    el('span', { class: 'dq-compare-word left', 'aria-hidden': 'true', text: words.before }), el('span', { class: 'dq-compare-word right', 'aria-hidden': 'true', text: words.after }), handle);
  let at = 50;
  let held = false;
  const set = (percent) => {
    at = Math.min(100, Math.max(0, percent));
    node.style.setProperty('--at', `${at}%`);
    handle.setAttribute('aria-valuenow', String(Math.round(at)));
    handle.setAttribute('aria-valuetext', `${words.before} ${Math.round(at)}%`);
  };
  const follow = (event) => {
    const box = node.getBoundingClientRect();
    set(((event.clientX - box.left) / (box.width || 1)) * 100);
  };
  const down = (event) => {
    if (event.button !== 0 || (!anywhere && event.currentTarget !== handle)) return;
    event.stopPropagation();
    event.preventDefault();
    held = true;
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    if (event.currentTarget === node) follow(event);
  };
  handle.addEventListener('pointerdown', down);
  if (anywhere) node.addEventListener('pointerdown', down);
  handle.addEventListener('pointermove', (event) => { if (held) follow(event); });
  for (const name of ['pointerup', 'pointercancel']) handle.addEventListener(name, () => { held = false; });
  handle.addEventListener('keydown', (event) => {
    const step = event.shiftKey ? 1 : STEP;
    const to = { ArrowLeft: at - step, ArrowDown: at - step, ArrowRight: at + step, ArrowUp: at + step, Home: 0, End: 100, PageDown: at - 20, PageUp: at + 20 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    set(to);
  });
  set(50);
  element.append(node);
  const difference = (on) => {
    node.classList.toggle('difference', on);
    handle.hidden = on;
  };
  return { node, set, get: () => at, difference, destroy: () => node.remove() };
}

/** Where a picture with these margins lies in the one extended by them: a CSS inset. */
export function insetOf([left, top, right, bottom], width, height) {
  const share = (part, whole) => `${(part / (whole || 1)) * 100}%`;
  const [across, down] = [left + width + right, top + height + bottom];
  return [share(top, down), share(right, across), share(bottom, down), share(left, across)].join(' ');
}

const FITS = { stretch: 'fill', latent: 'fill', crop: 'cover', fill: 'contain' };

/** The comparison on the board: a bar of its own and the pictures over the world, at its zoom. */
export class Comparison {
  /** @param board Board @param close() puts things back */
  constructor(board, close) {
    this.board = board;
    const choice = (name, key) => el('button', { type: 'button', t: key, 'data-compare': name, onclick: () => this.way(name) });
    this.ways = el('div', { class: 'dq-sides', role: 'group' }, choice('wipe', 'v.wipe'), choice('difference', 'v.difference'));
    this.bar = el('span', { class: 'dq-compare-bar' }, this.ways, iconButton('close', 'v.close', close));
  }

  /** @param facts {before: {ref, resize, margins}}; @param addresses {before, after} */
  async open({ before }, addresses) {
    this.close();
    const asked = {};
    this.asked = asked;
    const first = new Image();
    first.src = addresses.before;
    try {
      await first.decode();
    } catch {
      return false; // it is gone
    }
    if (this.asked !== asked) return true;
    const place = before.margins.some(Boolean) ? insetOf(before.margins, first.naturalWidth, first.naturalHeight) : '0';
    this.shown = mount(this.board.world, { before: addresses.before, after: addresses.after, place, fit: FITS[before.resize] ?? 'contain', anywhere: false });
    this.board.toolbar.insertBefore(this.bar, this.board.toolbar.querySelector('.dq-spring'));
    this.board.toolbar.classList.add('comparing');
    this.way('wipe');
    return true;
  }

  way(name) {
    this.shown?.difference(name === 'difference');
    for (const button of this.ways.children) button.setAttribute('aria-pressed', String(button.dataset.compare === name));
  }

  close() {
    this.asked = null;
    this.shown?.destroy();
    this.shown = null;
    this.bar.remove();
    this.board.toolbar.classList.remove('comparing');
  }
}
