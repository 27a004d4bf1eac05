// An ordered list of retouching steps as cards: those of a retouch, and those that finish any other painting.
import { el, t, toast } from './base.js';
import { clearErrors } from './fields.js';
import { FRESH, StepCard } from './stepcard.js';

const MOST = 16;

export class Steps {
  /** @param app {set(values), value, upscalers()} @param name `retouch_steps` or `finish`: a key of the stage's value, and the id of the place */
  constructor(app, name) {
    this.app = app;
    this.name = name;
    this.cards = [];
    this.list = el('div', { class: 'dq-cards' });
    this.row = el('div', { class: 'dq-row', role: 'group', tAria: 't.add' },
      ...Object.keys(FRESH).map((kind) => el('button', { type: 'button', class: 'dq-act', t: `t.${kind}`, tTitle: `t.${kind}.tip`, 'data-step': kind, onclick: () => this.add(kind) })));
    this.node = el('section', { class: `dq-extra dq-steps dq-${name}`, id: `f-${name}`, tAria: `f.${name}` },
      el('h3', { t: `f.${name}` }), el('p', { class: 'dq-tip', t: `t.tip.${name}` }), this.list, el('p', { class: 'dq-tip', t: 't.add' }), this.row);
  }

  relabel() {
    for (const card of this.cards) card.relabel(this.cards.indexOf(card), this.cards.length);
  }

  tell() {
    this.app.set({ [this.name]: this.cards.map(({ step }) => step) });
  }

  render() {
    this.list.replaceChildren(...this.cards.map((card, index) => card.build(index, this.cards.length)));
    for (const button of this.row.children) button.disabled = this.cards.length >= MOST;
    this.node.classList.toggle('filled', this.cards.length > 0);
  }

  /** Another list: the steps of a Request, or those of before. */
  setAll(steps) {
    this.cards = steps.map((step) => new StepCard(this, { ...step }));
    this.tell();
    this.render();
  }

  add(kind) {
    clearErrors();
    const card = new StepCard(this, { kind, ...FRESH[kind] });
    this.cards.push(card);
    this.tell();
    this.render();
    card.node.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    card.node.querySelector('.dq-field input, .dq-field textarea, .dq-field select')?.focus({ preventScroll: true });
  }

  /** Earlier (-1) or later (1); the button that was pressed keeps the focus. */
  move(card, way) {
    const from = this.cards.indexOf(card);
    const to = from + way;
    if (to < 0 || to >= this.cards.length) return;
    clearErrors();
    this.cards.splice(from, 1);
    this.cards.splice(to, 0, card);
    this.tell();
    this.render();
    const [up, down] = card.movers;
    const wanted = way < 0 ? up : down;
    (wanted.disabled ? (wanted === up ? down : up) : wanted).focus();
  }

  remove(card) {
    clearErrors();
    const before = this.cards.map(({ step }) => step);
    this.cards.splice(this.cards.indexOf(card), 1);
    this.tell();
    this.render();
    this.row.querySelector('button').focus();
    toast(t('t.removed'), { text: t('s.restore'), run: () => this.setAll(before) });
  }
}
