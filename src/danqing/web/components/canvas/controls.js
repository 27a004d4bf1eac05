// Control cards: up to three units in the Composition section.
import { ask, el, t } from './base.js';
import { Card } from './card.js';
import { unfold } from './fields.js';

const MAX = 3;
const FIRST = 'canny';

/** A unit as `spec.control` has it. */
export const freshUnit = (image = null) => ({ model: '', image, mask: null, annotator: FIRST, control_type: null, params: {}, resolution_px: null, pixel_perfect: true, weight: 1, start: 0, end: 1, mode: 'balanced', resize_mode: 'crop', passes: 'both' });

export class Controls {
  /** @param app {addressOf, set(values), likes, startingPicture, showLoose, withCanvasPicture} */
  constructor(app) {
    this.app = app;
    this.cards = [];
    this.guests = new Set(); // control cards that stand elsewhere: those of regions
    this.base = '';
    this.offers = { kinds: [], types: [], models: [] };
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
    document.body.classList.toggle('on-distilled', offers.distilled);
    this.loaded = true;
    for (const card of [...this.cards, ...this.guests]) card.follow();
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
    for (const card of [...this.cards, ...this.guests]) card.refresh();
  }

  get available() {
    return this.offers.models.length > 0;
  }

  render() {
    this.list.replaceChildren(...this.cards.map((card, index) => card.build(index)));
    this.refresh();
  }

  keep() {
    this.app.set({ controls: this.cards.map((card) => card.asked()) });
  }

  /** What was drawn for a picture that is a map, so that it can be drawn on: {kind, base, …}; null for any other. */
  drawingOf(ref) {
    return this.app.value.drawings?.[ref] ?? null;
  }

  keepDrawing(ref, drawing) {
    this.app.set({ drawings: { ...this.app.value.drawings, [ref]: drawing } });
  }

  add(image = null) {
    const unit = freshUnit(image);
    const card = new Card(this, unit, { chosen: false });
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
    this.cards = units.map((unit) => new Card(this, { ...unit }, { chosen: true }));
    this.render();
  }

  /** A picture dropped for control: into the first card that has none, else into a new one. */
  async take(ref) {
    await unfold('composition', 'controls');
    const card = this.cards.find((each) => each.isEmpty);
    if (card) card.setPicture(ref);
    else if (this.cards.length < MAX) this.add(ref);
    else this.cards.at(-1).setPicture(ref);
  }
}
