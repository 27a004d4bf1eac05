// Reviews as they come: who says what of which version, newest first.
import { el, relabel, t } from '../canvas/base.js';
import { moment, since, thumbOf } from './api.js';
import { sign } from './icons.js';
import { SuggestionLine } from './suggestion.js';
import { check } from './sheets.js';
import { told } from './told.js';

const MARKS = [['picked', 'pick', 'p.picked'], ['starred', 'starred', 'p.starred']];

class ReviewCard {
  constructor(page) {
    this.page = page;
    this.lines = new Map();
    this.head = el('div', { class: 'dp-review-head' });
    this.note = el('p', { class: 'dp-review-note' });
    this.list = el('ol', { class: 'dp-suggestions' });
    this.node = el('article', { class: 'dp-review' }, this.head, this.note, this.list);
  }

  show(review) {
    this.review = review;
    this.node.dataset.review = review.id;
    this.node.dataset.source = review.source;
    const byModel = review.source !== 'person';
    this.node.classList.toggle('by-model', byModel);
    const { page } = this;
    const version = page.find(review.record_id);
    const name = version ? page.name(version) : t('p.gone');
    this.head.replaceChildren(
      el('button', { type: 'button', class: 'dp-review-picture', 'aria-label': name, title: name, disabled: !version, onclick: () => page.choose(review.record_id) },
        el('img', { src: thumbOf(review.record_id), alt: '', loading: 'lazy' })),
      el('div', { class: 'dp-review-who' },
        el('strong', { text: review.reviewer || t('p.nobody') }),
        byModel ? el('span', { class: 'dp-chip model' }, sign('model'), el('span', { t: `p.source.${review.source}` })) : null,
        el('span', { class: 'dq-tip', title: moment(review.created_at), text: `${name} · ${since(review.created_at)}` })),
      el('div', { class: 'dp-review-marks' }, ...MARKS.filter(([flag]) => review[flag]).map(([, icon, key]) => sign(icon, key)),
        review.approved ? el('span', { class: 'dp-chip good', t: 'p.approved' }) : null));
    this.note.textContent = byModel ? told(review.note) : review.note;
    this.note.lang = review.language ?? '';
    this.note.hidden = !review.note;
    this.list.hidden = review.suggestions.length === 0;
    const kept = new Map();
    for (const suggestion of review.suggestions) {
      const line = this.lines.get(suggestion.id) ?? new SuggestionLine(page);
      line.show(suggestion, review, page.numberOf(suggestion.id));
      kept.set(suggestion.id, line);
    }
    for (const [id, line] of this.lines) if (!kept.has(id)) line.stop();
    this.lines = kept;
    const nodes = [...kept.values()].map(({ node }) => node);
    if (nodes.length !== this.list.children.length || nodes.some((node, i) => node !== this.list.children[i])) this.list.replaceChildren(...nodes);
  }

  stop() {
    for (const line of this.lines.values()) line.stop();
  }

  get isOpen() {
    return this.review.suggestions.some(({ state }) => state === 'open');
  }
}

export class Reviews {
  /** @param page {find, name, numberOf, choose, …} */
  constructor(page) {
    this.page = page;
    this.cards = new Map();
    this.only = null;
    this.openOnly = check('p.reviews.open', false, { 'data-filter': 'open' });
    this.thisOnly = check('p.reviews.this', false, { 'data-filter': 'this' });
    for (const { box } of [this.openOnly, this.thisOnly]) box.addEventListener('change', () => this.filter());
    this.filters = el('div', { class: 'dp-row dp-filters' }, this.openOnly.node, this.thisOnly.node);
    this.list = el('div', { class: 'dp-reviews' });
    this.none = el('p', { class: 'dq-tip dp-none' });
    this.node = el('div', {}, page.asking.node, this.filters, this.none, this.list);
  }

  /** @param reviews newest first; a card that is there stays, with what is open in it */
  show(reviews) {
    const kept = new Map();
    for (const review of reviews) {
      const known = this.cards.get(review.id);
      const card = known ?? new ReviewCard(this.page);
      card.show(review);
      if (!known && this.shownBefore) card.node.classList.add('fresh');
      kept.set(review.id, card);
    }
    for (const [id, card] of this.cards) if (!kept.has(id)) { card.stop(); card.node.remove(); }
    this.cards = kept;
    this.shownBefore = true;
    [...kept.values()].forEach(({ node }, i) => { if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null); });
    this.filter();
  }

  filter() {
    let shown = 0;
    for (const card of this.cards.values()) {
      const hide = (this.openOnly.box.checked && !card.isOpen) || (this.thisOnly.box.checked && card.review.record_id !== this.page.chosen);
      card.node.hidden = hide;
      if (!hide) shown += 1;
    }
    this.filters.hidden = this.cards.size === 0;
    this.none.hidden = shown > 0;
    this.none.textContent = t(this.cards.size ? 'p.reviews.filtered' : 'p.reviews.none');
  }

  /** Bring the line of a suggestion into sight. */
  reveal(suggestion) {
    const node = this.list.querySelector(`[data-suggestion="${suggestion}"]`);
    if (!node) return;
    for (const { box } of [this.openOnly, this.thisOnly]) box.checked = box.checked && !node.closest('.dp-review').hidden;
    this.filter();
    node.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    node.focus({ preventScroll: true });
  }

  relabel() {
    relabel(this.node);
    for (const card of this.cards.values()) {
      card.show(card.review);
      for (const line of card.lines.values()) line.relabel();
    }
    this.filter();
  }

  end() {
    for (const card of this.cards.values()) card.stop();
  }
}
