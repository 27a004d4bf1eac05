// The large picture of a version with the marks of its reviews, or two versions compared.
import { el, iconButton, language, t } from '../canvas/base.js';
import { mount } from '../canvas/compare.js';
import { get, pictureOf } from './api.js';
import { changeList } from './changes.js';
import { menuButton } from './sheets.js';

const SVG = 'http://www.w3.org/2000/svg';
const percent = (share) => `${(share * 100).toFixed(1)}%`;

/** The shape of a suggestion in picture pixels as an SVG element; null where it is about the whole picture. */
export function outline({ box, lasso }) {
  if (!box && !lasso) return null;
  const shape = document.createElementNS(SVG, lasso ? 'polygon' : 'rect');
  const values = lasso
    ? { points: lasso.map((corner) => corner.join(',')).join(' ') }
    : { x: box.left_px, y: box.top_px, width: box.right_px - box.left_px, height: box.bottom_px - box.top_px };
  for (const [name, value] of Object.entries(values)) shape.setAttribute(name, value);
  return shape;
}

/** Where the number of a mark stands: the upper left of its box, the topmost corner of its lasso. */
const corner = ({ box, lasso }) => (lasso ? lasso.reduce((top, point) => (point[1] < top[1] ? point : top)) : [box.left_px, box.top_px]);

/** What a model said looks another way than what a person said. */
export const byModel = (source) => (source === 'person' ? '' : ' by-model');

export class Picture {
  /** @param page {find(record), name(version), pointed(suggestion), compared(record)} */
  constructor(page) {
    this.page = page;
    this.version = null;
    this.marks = [];
    this.other = null; // the version compared with
    this.image = el('img', { class: 'dp-picture', alt: '', draggable: 'false' });
    this.layer = document.createElementNS(SVG, 'svg');
    this.layer.setAttribute('preserveAspectRatio', 'none');
    this.layer.setAttribute('aria-hidden', 'true');
    this.numbers = el('div', { class: 'dp-mark-numbers' });
    this.sheet = el('div', { class: 'dp-picture-sheet' }, this.image, this.layer, this.numbers);
    this.frame = el('div', { class: 'dp-frame' }, this.sheet);
    this.toggle = el('button', { type: 'button', class: 'dq-act', t: 'p.marks', 'aria-pressed': 'true', onclick: () => this.showMarks(this.toggle.getAttribute('aria-pressed') !== 'true') });
    this.bar = el('div', { class: 'dp-picture-bar' });
    this.facts = el('div', { class: 'dp-compare-facts', 'aria-live': 'polite' });
    this.node = el('section', { class: 'dp-stage', tAria: 'p.picture' }, this.bar, this.frame, this.facts);
  }

  /** @param marks [{suggestion, number, source}] of this version */
  show(version, marks) {
    const other = version.record !== this.version?.record;
    if (other && this.comparison) this.leave();
    this.version = version;
    this.marks = marks;
    this.image.alt = version.prompt;
    if (other) this.image.src = pictureOf(version.record);
    this.size(version);
    this.draw();
    this.fillBar();
  }

  size({ width_px: width, height_px: height }) {
    this.sheet.style.setProperty('--ratio', String(width / height));
    this.layer.setAttribute('viewBox', `0 0 ${width} ${height}`);
  }

  draw() {
    const { width_px: width, height_px: height } = this.version;
    const visible = this.marks.filter(({ suggestion }) => suggestion.box || suggestion.lasso);
    this.toggle.hidden = visible.length === 0 || Boolean(this.comparison);
    this.layer.replaceChildren(...visible.map(({ suggestion, source }) => {
      const shape = outline(suggestion);
      shape.setAttribute('class', `dp-mark ${suggestion.state}${byModel(source)}`);
      shape.dataset.suggestion = suggestion.id;
      shape.addEventListener('click', () => this.page.pointed(suggestion.id));
      return shape;
    }));
    this.numbers.replaceChildren(...visible.map(({ suggestion, number, source }) => {
      const [x, y] = corner(suggestion);
      const node = el('button', { type: 'button', class: `dp-mark-number ${suggestion.state}${byModel(source)}`, text: String(number), title: suggestion.prompt, 'aria-label': t('p.mark', { number, words: suggestion.prompt }), 'data-suggestion': suggestion.id, onclick: () => this.page.pointed(suggestion.id) });
      node.style.left = percent(x / width);
      node.style.top = percent(y / height);
      return node;
    }));
  }

  showMarks(on) {
    this.toggle.setAttribute('aria-pressed', String(on));
    this.sheet.classList.toggle('unmarked', !on);
  }

  /** One mark stands out while its suggestion is looked at. */
  point(suggestion) {
    for (const node of this.sheet.querySelectorAll('[data-suggestion]')) node.classList.toggle('pointed', node.dataset.suggestion === suggestion);
  }

  fillBar() {
    const { version, page } = this;
    const key = JSON.stringify([version.number, version.current, this.other, this.way, page.others(version.record).length, language()]);
    if (key === this.barKey) return;
    this.barKey = key;
    const entries = () => page.others(version.record).map((other) => ({ text: page.name(other), name: other.record, run: () => this.compare(other.record) }));
    if (!this.comparison) {
      const compare = menuButton('p.compare', entries, { 'data-act': 'compare' });
      compare.disabled = page.others(version.record).length === 0;
      this.bar.replaceChildren(el('strong', { text: page.name(version) }), version.current ? el('span', { class: 'dp-chip current', t: 'p.current' }) : '',
        el('span', { class: 'dq-spring' }), this.toggle, compare);
      return;
    }
    const way = (name, key) => el('button', { type: 'button', t: key, 'data-compare': name, 'aria-pressed': String(this.way === name), onclick: () => this.setWay(name) });
    this.bar.replaceChildren(
      el('strong', { text: `${page.name(page.find(this.other))} → ${page.name(version)}` }), el('span', { class: 'dq-spring' }),
      el('div', { class: 'dq-sides', role: 'group' }, way('wipe', 'v.wipe'), way('difference', 'v.difference')),
      menuButton('p.compare.with', entries, { 'data-act': 'compare' }), iconButton('close', 'v.close', () => this.leave(), { 'data-act': 'close' }));
  }

  /** Compare the version shown with another one: that one is "before". */
  async compare(other) {
    const { page, version } = this;
    this.leave();
    this.other = other;
    const before = page.find(other);
    this.image.hidden = true;
    this.sheet.classList.add('comparing');
    this.comparison = mount(this.sheet, { before: pictureOf(other), after: pictureOf(version.record), labels: { before: page.name(before), after: page.name(version) } });
    this.setWay('wipe');
    this.draw();
    this.facts.replaceChildren(el('p', { class: 'dq-tip', t: 'p.compare.busy' }));
    try {
      const told = await get(`projects/${page.id}/compare?a=${other}&b=${version.record}`);
      if (this.other === other && this.version.record === version.record) this.facts.replaceChildren(...this.told(told));
    } catch (error) {
      if (this.other === other) this.facts.replaceChildren(el('p', { class: 'dq-wrong', text: error.text }));
    }
  }

  /** What the studio measured, in words. */
  told({ identical, same_size: same, mean_difference: mean, max_difference: max, changed_share: share, changed_box: box, a, b, changes }) {
    if (identical) return [el('p', { t: 'p.compare.identical' })];
    const row = (key, text) => [el('dt', { t: key }), el('dd', { text })];
    const size = same ? [] : row('p.compare.sizes', `${a.width_px} × ${a.height_px} → ${b.width_px} × ${b.height_px}`);
    const place = box ? row('p.compare.where', t('r.place.box', { width: box[2] - box[0], height: box[3] - box[1], left: box[0], top: box[1] })) : [];
    return [
      el('dl', { class: 'dp-numbers' }, ...row('p.compare.share', percent(share)), ...row('p.compare.mean', percent(mean)), ...row('p.compare.max', percent(max)), ...place, ...size),
      ...(changes.length ? [el('h3', { t: 'p.changes' }), changeList(changes)] : []),
    ];
  }

  setWay(name) {
    this.way = name;
    this.comparison?.difference(name === 'difference');
    this.fillBar();
  }

  leave() {
    this.comparison?.destroy();
    this.comparison = null;
    this.other = null;
    this.image.hidden = false;
    this.sheet.classList.remove('comparing');
    this.facts.replaceChildren();
    if (this.version) { this.draw(); this.fillBar(); }
  }

  relabel() {
    if (!this.version) return;
    if (this.comparison) this.compare(this.other);
    else this.show(this.version, this.marks);
  }
}
