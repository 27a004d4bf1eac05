// Curves over the steps of a run as SVG: losses in one panel, what a discriminator believes in another.
import { el, known, t } from '../canvas/base.js';
import { figure, number } from './api.js';

const SVG = 'http://www.w3.org/2000/svg';
const SIZE = { width: 300, height: 150, left: 44, right: 6, top: 8, bottom: 20 };
const MOST_POINTS = 300;
const BELIEFS = new Set(['D(x)', 'D(G(z))']);
const COUNTERS = new Set(['round', 'pair']); // where ArtAug is: no curve
const OPPONENTS = ['discriminator', 'critic']; // the sum of two that work against each other says nothing
const KEYS = { 'D(x)': 'real', 'D(G(z))': 'fake' };

const node = (tag, properties, ...children) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
};

/** What a curve is called. */
export function curveName(name) {
  const key = `tr.part.${KEYS[name] ?? name}`;
  return known(key) ? t(key) : name;
}

/** Means of equal pieces, so that a long run is a line and not a smear. */
export function thinned(points, most = MOST_POINTS) {
  if (points.length <= most) return points;
  const found = [];
  for (let i = 0; i < most; i += 1) {
    const piece = points.slice(Math.floor((i * points.length) / most), Math.floor(((i + 1) * points.length) / most));
    const mean = (at) => piece.reduce((sum, point) => sum + point[at], 0) / piece.length;
    found.push([mean(0), mean(1)]);
  }
  return found;
}

export class Chart {
  constructor() {
    this.curves = new Map(); // name → [[step, value], …]
    this.steps = 0;
    this.node = el('div', { class: 'dt-chart', hidden: true });
    this.pending = false;
  }

  /** One step's figures: {step, loss, parts}. A run that went back after a kill draws over what it did before. */
  add({ step, loss, parts }) {
    const named = Object.fromEntries(Object.entries(parts).filter(([name]) => !COUNTERS.has(name)));
    if (loss !== null && !OPPONENTS.some((name) => name in named)) named.loss = loss;
    for (const [name, value] of Object.entries(named)) {
      if (!Number.isFinite(value)) continue;
      if (!this.curves.has(name)) this.curves.set(name, []);
      const points = this.curves.get(name);
      while (points.length && points.at(-1)[0] >= step) points.pop();
      points.push([step, value]);
    }
    this.want();
  }

  want() {
    if (this.pending) return;
    this.pending = true;
    setTimeout(() => { this.pending = false; this.draw(); }, 120);
  }

  draw() {
    const drawn = [...this.curves].filter(([, points]) => points.length > 1);
    const panels = [drawn.filter(([name]) => !BELIEFS.has(name)), drawn.filter(([name]) => BELIEFS.has(name))].filter((panel) => panel.length);
    this.node.hidden = panels.length === 0;
    let colour = 0;
    this.node.replaceChildren(...panels.map((panel) => {
      const told = panel.map(([name, points]) => ({ name, points: thinned(points), colour: colour++ % 4 }));
      return this.panel(told);
    }));
  }

  panel(curves) {
    const values = curves.flatMap(({ points }) => points.map(([, value]) => value));
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (curves.every(({ name }) => BELIEFS.has(name))) [low, high] = [0, 1];
    if (high <= low) [low, high] = [low - Math.abs(low || 1) * 0.5, high + Math.abs(high || 1) * 0.5];
    const last = Math.max(this.steps, ...curves.flatMap(({ points }) => points.at(-1)[0]));
    const x = (step) => SIZE.left + (step / last) * (SIZE.width - SIZE.left - SIZE.right);
    const y = (value) => SIZE.height - SIZE.bottom - ((value - low) / (high - low)) * (SIZE.height - SIZE.top - SIZE.bottom);
    const lines = [0, 0.5, 1].flatMap((share) => {
      const value = low + share * (high - low);
      const label = node('text', { x: SIZE.left - 6, y: y(value) + 3.5, 'text-anchor': 'end' });
      label.textContent = figure(Math.abs(value) < (high - low) / 1000 ? 0 : value);
      return [node('line', { class: 'dt-grid-line', x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(value), y2: y(value) }), label];
    });
    const mark = (step, anchor) => {
      const label = node('text', { x: x(step), y: SIZE.height - 6, 'text-anchor': anchor });
      label.textContent = step ? number(step) : t('tr.step.zero');
      return label;
    };
    const paths = curves.map(({ points, colour, name }) => node('polyline', { class: `dt-curve c${colour}`, 'data-curve': name, points: points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ') }));
    const drawing = node('svg', { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: 'img' }, ...lines, mark(0, 'start'), mark(last, 'end'), ...paths);
    const legend = curves.map(({ name, points, colour }) => el('span', { class: `dt-key c${colour}` }, el('span', { text: curveName(name) }), el('strong', { text: figure(points.at(-1)[1]) })));
    drawing.setAttribute('aria-label', curves.map(({ name, points }) => `${curveName(name)} ${figure(points.at(-1)[1])}`).join(', '));
    return el('figure', { class: 'dt-panel' }, el('figcaption', { class: 'dt-keys' }, ...legend), drawing);
  }
}
