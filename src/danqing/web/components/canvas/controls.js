// Control cards: up to three units in the Composition section, each with its picture, its map and its settings.
import { ask, el, icon, iconButton, post, t } from './base.js';
import { clearErrors, paintedSize, unfold } from './fields.js';
import { choice, slider } from './parts.js';
import { Slot } from './slot.js';

const MAX = 3;
const GROUPS = ['line', 'block', 'detail', 'own'];
const FIRST = 'canny';

class Card {
  /** @param home Controls @param unit a ControlUnit as JSON */
  constructor(home, unit, chosen) {
    this.home = home;
    this.unit = unit;
    this.chosen = chosen; // a model that a person chose stays; another one follows the kind of map
    this.map = null;
    this.asked = 0;
  }

  get picture() {
    return this.unit.image ?? this.home.app.startingPicture();
  }

  build(index) {
    const { unit } = this;
    const id = (name) => `f-controls.${index}.${name}`;
    const set = (name) => (value) => this.change({ [name]: value });
    this.slot = new Slot({ id: id('image'), empty: 'c.picture', choose: (ref) => this.setPicture(ref), clear: () => this.setPicture(null) });
    this.mapButton = el('button', { type: 'button', class: 'dq-slot-face', onclick: () => this.showMap() });
    this.mapNote = el('p', { class: 'dq-wrong', role: 'alert', hidden: true });
    this.kind = this.kinds(id('annotator'));
    this.model = el('select', { tAria: 'c.model' });
    this.model.addEventListener('change', () => { this.chosen = this.model.value !== ''; this.change({ model: this.model.value || this.fittest() }); this.refresh(); });
    this.modelField = el('label', { class: 'dq-field', id: id('model') }, el('span', { t: 'c.model' }), el('span', { class: 'dq-tip', t: 'c.model.tip' }), this.model);
    this.missing = el('p', { class: 'dq-hint' });
    this.more = el('details', { class: 'dq-more' }, el('summary', { t: 'c.more' }),
      slider('c.start', { id: id('start'), value: unit.start, set: set('start') }),
      slider('c.end', { id: id('end'), value: unit.end, set: set('end') }),
      choice('c.mode', { id: id('mode'), options: ['balanced', 'prompt', 'control'], value: unit.mode, set: set('mode') }),
      choice('c.resize', { id: id('resize_mode'), options: ['crop', 'fill', 'stretch'], value: unit.resize_mode, set: (value) => { this.change({ resize_mode: value }); this.forgetMap(); } }),
      this.modelField);
    this.node = el('div', { class: 'dq-card', id: `f-controls.${index}`, role: 'group', 'aria-label': `${t('c.title')} ${index + 1}` },
      el('div', { class: 'dq-card-head' }, el('strong', {}, el('span', { t: 'c.title' }), ` ${index + 1}`), el('span', { class: 'dq-spring' }),
        iconButton('close', 'c.remove', () => this.home.remove(this))),
      el('div', { class: 'dq-two' }, this.slot.node, el('div', { class: 'dq-slot' }, this.mapButton)),
      this.mapNote,
      el('button', { type: 'button', class: 'dq-link', t: 'c.canvas', onclick: () => this.home.app.withCanvasPicture((ref) => this.setPicture(ref)) }),
      this.kind, this.missing,
      slider('c.weight', { id: id('weight'), high: 2, value: unit.weight, set: set('weight') }),
      this.more);
    this.refresh();
    return this.node;
  }

  /** The kinds of map, in groups; one that is not in the list (from a picture's settings) is added. */
  kinds(id) {
    const select = el('select', { tAria: 'c.kind' });
    const { kinds } = this.home.offers;
    for (const group of GROUPS) {
      const own = kinds.filter((kind) => kind.group === group);
      if (own.length) select.append(el('optgroup', { tLabel: `c.group.${group}` }, ...own.map((kind) =>
        el('option', { value: kind.key, ...(kind.name ? { text: kind.name } : { t: `c.kind.${kind.key}` }) }))));
    }
    const { annotator } = this.unit;
    if (!kinds.some((kind) => kind.key === annotator)) select.append(el('option', { value: annotator, text: annotator }));
    select.value = annotator;
    select.addEventListener('change', () => this.setKind(select.value));
    this.tip = el('span', { class: 'dq-tip' });
    return el('label', { class: 'dq-field', id }, el('span', { t: 'c.kind' }), select, this.tip);
  }

  fittest() {
    return this.home.offers.kinds.find((kind) => kind.key === this.unit.annotator)?.model ?? '';
  }

  change(values) {
    Object.assign(this.unit, values);
    this.home.keep();
  }

  setKind(annotator) {
    this.change({ annotator, params: {} });
    this.follow();
    this.forgetMap();
  }

  setPicture(ref) {
    clearErrors();
    this.change({ image: ref });
    this.forgetMap();
  }

  /** Take the model that suits the kind of map, unless a person chose one that is still there. */
  follow() {
    if (this.chosen && this.home.offers.models.includes(this.unit.model)) return;
    this.chosen = false;
    this.change({ model: this.fittest() });
  }

  forgetMap() {
    this.map = null;
    this.asked += 1; // an answer on its way is for what stood here before
    this.mapButton.disabled = false;
    this.mapNote.hidden = true;
    this.refresh();
  }

  refresh() {
    const { unit, home } = this;
    const { models } = home.offers;
    this.slot.show(this.picture && home.app.addressOf(this.picture), { own: unit.image !== null, note: unit.image === null && this.picture ? 's.source' : null });
    this.mapButton.replaceChildren(...(this.map
      ? [el('img', { src: home.app.addressOf(this.map), alt: t('c.map') })]
      : [icon('view'), el('span', { t: this.mapButton.disabled ? 'c.map.busy' : 'c.map.show' })]));
    this.mapButton.setAttribute('aria-label', t(this.map ? 'c.map' : 'c.map.show'));
    const known = home.offers.kinds.find((kind) => kind.key === unit.annotator && !kind.name);
    this.tip.dataset.t = known ? `c.kind.${unit.annotator}.tip` : '';
    this.tip.textContent = known ? t(this.tip.dataset.t) : '';
    const auto = this.fittest();
    const names = unit.model && !models.includes(unit.model) ? [...models, unit.model] : models;
    this.model.replaceChildren(el('option', { value: '', text: auto ? t('c.model.auto', { name: auto }) : t('c.model.none') }), ...names.map((name) => el('option', { value: name, text: name })));
    this.model.value = this.chosen ? unit.model : '';
    if (unit.annotator === 'none') this.tip.after(this.modelField);
    else this.more.append(this.modelField);
    this.missing.hidden = unit.model !== '';
    this.missing.textContent = t(models.length ? 'c.missing.kind' : 'c.missing', { model: home.base });
  }

  /** Have the map made and shown beside the picture; a map that is there is shown large on the canvas. */
  async showMap() {
    const { app } = this.home;
    if (this.map) return app.showLoose({ ref: this.map, title: 'c.map', name: `danqing-map-${this.unit.annotator}` });
    if (!this.picture) return this.fail(t('c.map.need'));
    this.forgetMap();
    const asked = this.asked;
    this.mapButton.disabled = true;
    this.refresh();
    const { annotator, params, resolution_px: resolution, pixel_perfect: perfect, resize_mode: resize } = this.unit;
    const size = perfect ? paintedSize() : {};
    try {
      const { ref } = await post('annotate', { image: this.picture, annotator, params, resolution_px: resolution, resize_mode: resize, ...size });
      if (asked === this.asked) this.map = ref;
    } catch (error) {
      if (asked === this.asked) this.fail(error.text);
    }
    if (asked !== this.asked) return null;
    this.mapButton.disabled = false;
    return this.refresh();
  }

  fail(text) {
    this.mapNote.textContent = text;
    this.mapNote.hidden = false;
  }
}

export class Controls {
  /** @param app {addressOf, set(values), likes, startingPicture, showLoose, withCanvasPicture} */
  constructor(app) {
    this.app = app;
    this.cards = [];
    this.base = '';
    this.offers = { kinds: [], models: [] };
    this.loaded = false;
    this.list = el('div', { class: 'dq-cards' });
    this.missing = el('p', { class: 'dq-card dq-hint', hidden: true });
    this.addButton = el('button', { type: 'button', class: 'dq-act dq-add', t: 'c.add', onclick: () => this.add() });
    this.node = el('section', { class: 'dq-extra', id: 'f-controls', tAria: 'c.title' },
      el('h3', { t: 'c.title' }), el('p', { class: 'dq-tip', t: 'c.tip' }), this.list, this.missing, this.addButton);
  }

  /** Ask what there is for a base model; cards follow. */
  async load(base = '') {
    this.wanted = base;
    let offers;
    try {
      offers = await ask(`controls?${new URLSearchParams({ model: base })}`);
    } catch {
      return; // the header says that the studio does not answer
    }
    if (this.wanted !== base) return;
    this.offers = offers;
    this.base = offers.base;
    this.app.likes.setOffer(offers.likes, offers.base);
    this.loaded = true;
    for (const card of this.cards) card.follow();
    this.render();
  }

  relabel() {
    for (const card of this.cards) card.node.setAttribute('aria-label', `${t('c.title')} ${this.cards.indexOf(card) + 1}`);
    this.refresh();
  }

  refresh() {
    const none = this.loaded && this.offers.models.length === 0;
    this.missing.hidden = !none || this.cards.length > 0;
    this.missing.textContent = t('c.missing', { model: this.base });
    this.addButton.hidden = !this.loaded || none || this.cards.length >= MAX;
    for (const card of this.cards) card.refresh();
  }

  get available() {
    return this.offers.models.length > 0;
  }

  render() {
    this.list.replaceChildren(...this.cards.map((card, index) => card.build(index)));
    this.refresh();
  }

  keep() {
    this.app.set({ controls: this.cards.map((card) => ({ ...card.unit })) });
  }

  add(image = null) {
    const unit = { model: '', image, mask: null, annotator: FIRST, params: {}, resolution_px: null, pixel_perfect: true, weight: 1, start: 0, end: 1, mode: 'balanced', resize_mode: 'crop', passes: 'both' };
    const card = new Card(this, unit, false);
    this.cards.push(card);
    unit.model = card.fittest();
    this.keep();
    this.render();
    card.node.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    return card;
  }

  remove(card) {
    this.cards.splice(this.cards.indexOf(card), 1);
    this.keep();
    this.render();
    this.addButton.focus();
  }

  /** Put the units of a Request into the cards. */
  setUnits(units) {
    this.cards = units.map((unit) => new Card(this, { ...unit }, true));
    this.render();
  }

  /** A picture dropped for control: into the first card that has none, else into a new one. */
  async take(ref) {
    await unfold('composition', 'controls');
    const card = this.cards.find((each) => each.unit.image === null);
    if (card) card.setPicture(ref);
    else if (this.cards.length < MAX) this.add(ref);
    else this.cards.at(-1).setPicture(ref);
  }
}
