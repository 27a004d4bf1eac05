// What was said of this version before: words, how much, what became of it, and the versions that came of it.

import { el, icon, language, t } from './base.js';
import { boundsOf } from './geometry.js';
import { STRENGTHS } from './model.js';

const SIGNS = { approved: 'check', picked: 'pick', starred: 'star' };

/** The strength in the plain words that are nearest. */
export function strengthWord(value) {
  const names = Object.keys(STRENGTHS);
  return t(`strength.${names.reduce((best, name) => (Math.abs(STRENGTHS[name] - value) < Math.abs(STRENGTHS[best] - value) ? name : best))}`);
}

export class History {
  /** @param model Model @param pointAt(suggestion) shows where on the picture */
  constructor({ model, pointAt }) {
    Object.assign(this, { model, pointAt });
    this.list = el('ol', { class: 'said' });
    this.node = el('section', { class: 'part history', tAria: 'said' }, el('h2', { t: 'said' }), this.list);
    this.told = '';
  }

  show() {
    const { model } = this;
    const id = model.chosen;
    const waiting = model.memory.outbox.filter(({ body }) => body.record === id).map(({ body }) => ({ ...body, id: body.key, waiting: true }));
    const reviews = [...waiting, ...model.reviewsOf(id).reverse()];
    const numbers = model.state.versions.map((version) => version.number);
    const now = JSON.stringify([id, language(), reviews, numbers]);
    if (now === this.told) return; // a button in it may have the focus
    this.told = now;
    this.list.replaceChildren(...reviews.map((review) => this.review(review)));
    this.node.hidden = reviews.length === 0;
  }

  review(review) {
    const signs = Object.keys(SIGNS).filter((name) => review[name]);
    const when = review.waiting
      ? el('span', { class: 'state open', text: t('said.waiting') })
      : el('time', { datetime: review.created_at, text: moment(review.created_at) });
    return el('li', { class: 'review' },
      el('p', { class: 'who' }, el('strong', { text: review.reviewer || t('said.nameless'), dir: 'auto' }), when),
      signs.length ? el('p', { class: 'flags' }, ...signs.map((name) => el('span', { class: name }, icon(SIGNS[name]), el('span', { text: t(`sign.${name}`) })))) : null,
      review.note ? el('p', { class: 'text', dir: 'auto', text: review.note }) : null,
      review.suggestions.length ? el('ul', {}, ...review.suggestions.map((suggestion) => this.suggestion(suggestion, review.waiting))) : null);
  }

  suggestion(suggestion, waiting) {
    const { model } = this;
    const results = waiting ? [] : (suggestion.results ?? []).map((id) => model.find(id)).filter(Boolean);
    const state = suggestion.state ?? 'open';
    return el('li', { class: `suggestion ${state}` },
      el('p', { class: 'text', dir: 'auto', text: suggestion.prompt || suggestion.reason || t('mark.unsaid') }),
      suggestion.prompt && suggestion.reason ? el('p', { class: 'quiet', dir: 'auto', text: suggestion.reason }) : null,
      el('p', { class: 'facts' },
        waiting ? null : el('span', { class: `state ${state}`, text: t(`state.${state}`) }),
        el('span', { class: 'quiet', text: strengthWord(suggestion.strength) }),
        !waiting && boundsOf(suggestion) ? el('button', { type: 'button', class: 'link', text: t('said.where'), onclick: () => this.pointAt(suggestion) }) : null,
        ...results.map((version) => el('button', { type: 'button', class: 'link result', text: t('said.result', { number: version.number }), onclick: () => model.choose(version.id) }))));
  }
}

/** A time as the page's language writes it; nothing where it is not one. */
export function moment(text, options = { dateStyle: 'medium', timeStyle: 'short' }) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? '' : new Intl.DateTimeFormat(language(), options).format(time);
}
