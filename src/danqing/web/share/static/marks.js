// The client's marks as cards: number, words in any language, how much is to change.

import { el, icon, language, t } from './base.js';
import { STRENGTHS } from './model.js';

/** Let a text field be as high as its text. */
export function grow(field) {
  field.style.height = 'auto';
  if (field.scrollHeight) field.style.height = `${field.scrollHeight + 2}px`;
}

/** Write into a text field only what is not there yet: a person may be composing a word in it. */
export function fill(field, text) {
  const spaces = document.activeElement === field && field.value.trim() === text.trim(); // about to go on writing
  if (field.value === text || spaces) return;
  field.value = text;
  grow(field);
}

export class Marks {
  constructor(model) {
    this.model = model;
    this.cards = new Map();
    this.list = el('ol', { class: 'marks' });
    this.empty = el('p', { class: 'quiet', t: 'marks.none' });
    this.node = el('section', { class: 'part', tAria: 'marks' }, el('h2', { t: 'marks' }), this.empty, this.list);
  }

  show() {
    const { marks } = this.model.draft();
    const ids = new Set(marks.map((mark) => mark.id));
    for (const [id, card] of this.cards) {
      if (ids.has(id)) continue;
      card.node.remove();
      this.cards.delete(id);
    }
    marks.forEach((mark, index) => {
      let card = this.cards.get(mark.id);
      if (!card) {
        card = this.card(mark);
        this.cards.set(mark.id, card);
      }
      // a node that is moved would lose its focus, so only a card at the wrong place is
      if (this.list.children[index] !== card.node) this.list.insertBefore(card.node, this.list.children[index] ?? null);
      this.update(card, mark, index + 1);
    });
    this.empty.hidden = marks.length > 0;
  }

  card({ id }) {
    const { model } = this;
    const number = el('span', { class: 'number', 'aria-hidden': 'true' });
    const field = el('textarea', { rows: '2', maxlength: '4000', tPlaceholder: 'mark.placeholder', id: `words-${id}`, autocapitalize: 'sentences', enterkeyhint: 'enter' });
    const wrong = el('p', { class: 'wrong', id: `wrong-${id}`, hidden: true, t: 'mark.wordless' });
    field.setAttribute('aria-describedby', wrong.id);
    field.addEventListener('input', () => {
      grow(field);
      this.complain(id, false);
      model.editMark(id, { prompt: field.value });
    });
    field.addEventListener('focus', () => model.activate(id));
    const choices = Object.keys(STRENGTHS).map((name) => {
      const radio = el('input', { type: 'radio', name: `strength-${id}`, value: name });
      radio.addEventListener('change', () => model.editMark(id, { strength: name }));
      return el('label', { tTitle: `strength.${name}.tip` }, radio, el('span', { t: `strength.${name}` }));
    });
    const remove = el('button', { type: 'button', class: 'tool', tTitle: 'mark.remove', onclick: () => this.remove(id) }, icon('bin'));
    const node = el('li', { class: 'mark' }, number, el('div', { class: 'words' }, field, wrong,
      el('fieldset', { class: 'strength' }, el('legend', { t: 'strength' }), ...choices)), remove);
    return { node, number, field, wrong, remove, radios: choices.map((label) => label.firstChild) };
  }

  update(card, mark, number) {
    card.number.textContent = String(number);
    card.field.setAttribute('aria-label', t('mark.words', { number }));
    card.remove.setAttribute('aria-label', t('mark.remove.number', { number }));
    card.node.classList.toggle('active', mark.id === this.model.active);
    fill(card.field, mark.prompt);
    for (const radio of card.radios) radio.checked = radio.value === mark.strength;
    if (card.said !== language()) grow(card.field);
    card.said = language();
  }

  remove(id) {
    const ids = this.model.draft().marks.map((mark) => mark.id);
    const next = ids[ids.indexOf(id) + 1] ?? ids[ids.indexOf(id) - 1];
    this.model.removeMark(id);
    this.cards.get(next)?.remove.focus({ preventScroll: true });
  }

  /** Lead to the words of a mark. */
  write(id) {
    const card = this.cards.get(id);
    if (!card) return;
    card.field.focus({ preventScroll: true });
    card.node.scrollIntoView({ block: 'nearest' });
  }

  complain(id, on) {
    const card = this.cards.get(id);
    if (!card) return;
    card.wrong.hidden = !on;
    card.field.toggleAttribute('aria-invalid', false);
    if (on) card.field.setAttribute('aria-invalid', 'true');
  }

  /** Whether every mark says something; the first that does not is led to. */
  check() {
    const wordless = this.model.draft().marks.filter((mark) => !mark.prompt.trim());
    for (const mark of wordless) this.complain(mark.id, true);
    if (wordless.length) this.write(wordless[0].id);
    return wordless.length === 0;
  }
}
