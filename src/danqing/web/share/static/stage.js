// The picture large: tools above it, zoom and pan, drawing, comparison with the version it was made from.

import { el, icon, iconButton, t } from './base.js';
import { mount as mountCompare } from './compare.js';
import { boundsOf, boxBetween, lassoOf, pinAt } from './geometry.js';
import { Gestures } from './gestures.js';
import { Shapes } from './shapes.js';
import { View } from './view.js';

const TOOLS = { look: 'v', box: 'b', lasso: 'l' };
const SMOOTH_PX = 1.5; // how far a lasso may be from the hand, in CSS pixels
const ZOOM = 1.5;

export class Stage {
  /** @param model Model @param written(id) leads to the words of a mark @param full() says that no more marks fit */
  constructor({ model, written, full }) {
    Object.assign(this, { model, written, full });
    this.tool = matchMedia('(pointer: coarse)').matches ? 'look' : 'box';
    this.picture = el('img', { class: 'picture', alt: '', draggable: 'false', decoding: 'async' });
    this.overlay = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    this.overlay.setAttribute('class', 'overlay');
    this.overlay.setAttribute('aria-hidden', 'true');
    this.world = el('div', { class: 'world' }, this.picture, this.overlay);
    this.badges = el('div', { class: 'badges' });
    this.wrong = el('p', { class: 'picture-wrong', hidden: true }, el('span', { t: 'picture.wrong' }), el('button', { type: 'button', class: 'plain', t: 'again', onclick: () => this.load(true) }));
    this.board = el('div', { class: 'board', tabindex: '0', role: 'group', 'aria-describedby': 'board-hint' }, this.world, this.badges, this.wrong);
    this.hint = el('p', { class: 'hint', id: 'board-hint' });
    this.node = el('section', { class: 'stage', tAria: 'stage' }, this.bar(), this.board, this.hint);
    this.view = new View(this.board, this.world, () => this.shapes?.place());
    this.shapes = new Shapes({ model, view: this.view, svg: this.overlay, badges: this.badges, focus: written });
    this.gestures = new Gestures(this.view, this.hand());
    this.board.addEventListener('keydown', (event) => this.key(event));
    this.picture.addEventListener('error', () => { this.wrong.hidden = false; });
    this.picture.addEventListener('load', () => { this.wrong.hidden = true; this.board.classList.remove('coming'); });
    this.choose(this.tool);
  }

  bar() {
    this.tools = Object.keys(TOOLS).map((name) =>
      el('button', { type: 'button', class: 'tool named', tTitle: `tool.${name}.tip`, 'data-tool': name, onclick: () => this.choose(name) }, icon(name), el('span', { t: `tool.${name}` })));
    this.undo = iconButton('undo', 'undo', () => this.model.undo());
    this.compare = el('button', { type: 'button', class: 'tool compare', 'aria-pressed': 'false', onclick: () => this.toggleCompare() }, icon('compare'), el('span', {}));
    this.save = el('a', { class: 'tool', tAria: 'save', tTitle: 'save' }, icon('save'));
    const zoom = [iconButton('minus', 'zoom.out', () => this.view.zoom(1 / ZOOM)), iconButton('fit', 'zoom.fit', () => this.view.fit()), iconButton('plus', 'zoom.in', () => this.view.zoom(ZOOM))];
    return el('div', { class: 'bar', role: 'toolbar', tAria: 'tools' },
      el('div', { class: 'group', role: 'group', tAria: 'tools.draw' }, ...this.tools), this.undo,
      el('span', { class: 'spring' }), this.compare, el('div', { class: 'group zooms' }, ...zoom), this.save);
  }

  choose(name) {
    this.tool = name;
    this.board.dataset.tool = name;
    if (this.comparing) this.endCompare();
    this.tell();
  }

  tell() {
    for (const button of this.tools) button.setAttribute('aria-pressed', String(!this.comparing && button.dataset.tool === this.tool));
    this.hint.textContent = this.comparing ? t('hint.compare') : t(`hint.${this.tool}`);
  }

  // drawing
  hand() {
    return {
      draws: () => this.tool !== 'look' && !this.comparing && this.model.version !== null,
      begin: (place) => { this.line = [place]; },
      move: (place) => {
        this.line.push(place);
        const { width_px, height_px } = this.model.version;
        if (this.tool === 'lasso') this.shapes.sketch(null, this.line);
        else this.shapes.sketch({ box: boxBetween(this.line[0], place, width_px, height_px) });
      },
      end: (place, tapped) => this.finish([...this.line, place], tapped),
      cancel: () => this.shapes.sketch(null),
    };
  }

  finish(line, tapped) {
    const { width_px: width, height_px: height } = this.model.version;
    this.shapes.sketch(null);
    const [first, last] = [line[0], line.at(-1)];
    if (tapped) return this.begin({ box: pinAt(last, width, height) });
    if (this.tool === 'box') return this.begin({ box: boxBetween(first, last, width, height) });
    const lasso = lassoOf(line, width, height, SMOOTH_PX / this.view.scale);
    if (lasso) return this.begin({ lasso });
    const [xs, ys] = [line.map(({ x }) => x), line.map(({ y }) => y)]; // a line there and back: what it passes
    return this.begin({ box: boxBetween({ x: Math.min(...xs), y: Math.min(...ys) }, { x: Math.max(...xs), y: Math.max(...ys) }, width, height) });
  }

  begin(shape) {
    const mark = this.model.addMark(shape);
    if (mark) this.written(mark.id);
    else this.full();
  }

  /** A box in the middle of what is seen, for those who use keys. */
  place() {
    const { width_px: width, height_px: height } = this.model.version;
    const { x, y } = this.view.middle;
    const side = (Math.min(width, height) / this.view.scale) * this.view.fitScale * 0.2;
    const mark = this.model.addMark({ box: boxBetween({ x: x - side, y: y - side }, { x: x + side, y: y + side }, width, height) });
    if (mark) this.shapes.buttons.get(mark.id)?.focus();
    else this.full();
  }

  key(event) {
    if (event.target !== this.board || event.isComposing || event.altKey) return;
    const held = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    const tool = Object.keys(TOOLS).find((name) => TOOLS[name] === key);
    const pan = { arrowleft: [40, 0], arrowright: [-40, 0], arrowup: [0, 40], arrowdown: [0, -40] }[key];
    if (held && key === 'z') this.model.undo();
    else if (held) return;
    else if (tool) this.choose(tool);
    else if (key === 'enter' && !this.comparing && this.model.version) this.place();
    else if (key === '+' || key === '=') this.view.zoom(ZOOM);
    else if (key === '-') this.view.zoom(1 / ZOOM);
    else if (key === '0') this.view.fit();
    else if (pan && !this.view.fitted) this.view.pan(...pan);
    else return;
    event.preventDefault();
  }

  // comparison
  get parent() {
    const { version } = this.model;
    return version?.parent ? this.model.find(version.parent) : null;
  }

  toggleCompare() {
    if (this.comparing) this.endCompare();
    else this.startCompare();
  }

  startCompare() {
    const { model, parent } = this;
    if (!parent) return;
    const labels = { before: t('version', { number: parent.number }), after: t('version', { number: model.version.number }), handle: t('compare.handle') };
    this.comparing = mountCompare(this.world, { before: parent.picture, after: model.version.picture, labels, anywhere: false });
    this.compare.setAttribute('aria-pressed', 'true');
    this.board.classList.add('comparing');
    this.view.fit();
    this.show();
    this.comparing.node.querySelector('button')?.focus({ preventScroll: true });
  }

  endCompare() {
    this.dropCompare();
    this.show();
  }

  dropCompare() {
    this.comparing?.destroy();
    this.comparing = null;
    this.compare.setAttribute('aria-pressed', 'false');
    this.board.classList.remove('comparing');
  }

  // showing
  show() {
    const { model } = this;
    const { parent } = this;
    const { version } = model;
    this.node.hidden = !version;
    if (!version) return;
    if (this.shown?.id !== version.id) this.load(false);
    this.picture.alt = t(version.prompt ? 'picture.alt.words' : 'picture.alt', { number: version.number, title: model.state.title, words: version.prompt });
    this.board.setAttribute('aria-label', this.picture.alt);
    this.undo.disabled = !model.canUndo || Boolean(this.comparing);
    this.compare.hidden = !parent;
    if (parent) {
      const words = t(this.comparing ? 'compare.end' : 'compare', { number: parent.number });
      this.compare.lastChild.textContent = words;
      this.compare.setAttribute('aria-label', words);
      this.compare.title = words;
    }
    this.save.href = `${version.picture}?download=true`;
    this.shapes.quiet = Boolean(this.comparing);
    this.tell();
    this.shapes.draw();
  }

  load(again) {
    const { version } = this.model;
    this.dropCompare();
    this.shown = version;
    this.shapes.shown = null;
    this.wrong.hidden = true;
    this.board.classList.add('coming');
    this.board.style.setProperty('--shape', `${version.width_px} / ${version.height_px}`);
    this.world.style.backgroundImage = `url("${encodeURI(version.thumbnail)}")`; // the small one until the large one is there
    if (again) this.picture.removeAttribute('src');
    this.picture.src = version.picture;
    this.view.setSize(version.width_px, version.height_px);
  }

  /** Point at what was said before: its outline, and the picture moved into sight. */
  pointAt(suggestion) {
    this.shapes.shown = suggestion.id;
    this.shapes.draw();
    if (boundsOf(suggestion)) this.view.fit();
    this.node.scrollIntoView({ block: 'start', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
  }
}
