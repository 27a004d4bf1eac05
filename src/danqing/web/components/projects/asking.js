// Asking a model for a review: the sheet, and a line for each asking until its review stands in the list.
import { el, iconButton, language, t, toast } from '../canvas/base.js';
import { get, post, problemText } from './api.js';
import { sign } from './icons.js';
import { comparedWith, reviewerChoice } from './reviewers.js';
import { sheet } from './sheets.js';

const LOOK_MS = 400;

export class Asking {
  /** @param page {id, find(record), name(version), changed(), open(tab)} */
  constructor(page) {
    this.page = page;
    this.asked = [];
    this.watched = new Map(); // those that this page has seen running, and what it last knew of them
    this.dropped = new Set();
    this.node = el('div', { class: 'dp-askings', 'aria-live': 'polite' });
    this.look();
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
  }

  /** Ask the server how it goes; again and again while anything runs. */
  async look() {
    clearTimeout(this.timer);
    try {
      this.take((await get(`projects/${this.page.id}/model-reviews`)).reviews);
    } catch {
      if (this.watched.size) this.timer = setTimeout(() => this.look(), 4 * LOOK_MS); // the server is away for a moment
    }
  }

  take(asked) {
    if (this.ended) return;
    const done = [];
    for (const one of asked) {
      if (this.watched.get(one.id) === 'running' && one.state === 'done') done.push(one);
      if (one.state === 'running' || this.watched.has(one.id)) this.watched.set(one.id, one.state);
    }
    const known = new Set(asked.map(({ id }) => id));
    for (const id of this.watched.keys()) if (!known.has(id)) this.watched.delete(id);
    this.asked = asked.filter(({ id, state }) => this.watched.has(id) && !this.dropped.has(id) && (state === 'running' || state === 'failed'));
    this.draw();
    if (done.length) this.page.changed();
    if (asked.some(({ state }) => state === 'running')) this.timer = setTimeout(() => this.look(), LOOK_MS);
  }

  draw() {
    const key = JSON.stringify([this.asked, this.asked.map(({ record }) => this.page.find(record)?.number), language()]);
    if (key === this.key) return;
    this.key = key;
    this.node.replaceChildren(...this.asked.map((one) => this.line(one)));
  }

  line({ id, record, reviewer, state, error }) {
    const version = this.page.find(record);
    const who = t(`p.rev.${reviewer}`);
    const name = version ? this.page.name(version) : t('p.gone');
    const head = el('div', { class: 'dp-asking-head' }, sign('model'), el('strong', { text: who }), el('span', { class: 'dq-tip', text: name }), el('span', { class: 'dq-spring' }),
      state === 'running'
        ? el('button', { type: 'button', class: 'dq-act', t: 'cancel', 'data-act': 'cancel-asking', onclick: (event) => this.cancel(event.currentTarget, id) })
        : iconButton('close', 's.close', () => { this.dropped.add(id); this.look(); }));
    const told = state === 'running'
      ? el('div', { class: 'dp-thinking', role: 'progressbar', 'aria-label': t('p.ask.thinking') }, el('div', { class: 'dq-track' }, el('div', { class: 'dp-runs' })), el('span', { class: 'dq-tip', text: t('p.ask.thinking') }))
      : el('div', {}, el('p', { class: 'dq-wrong', text: problemText(error), title: error?.message ?? '' }),
        el('div', { class: 'dp-row' }, el('button', { type: 'button', class: 'dq-act', t: 'p.ask.again', 'data-act': 'ask-again', disabled: !version, onclick: () => { this.dropped.add(id); this.send(record, reviewer).catch((problem) => toast(problem.text)); } })));
    return el('article', { class: `dp-asking ${state}`, 'data-asking': id }, head, told);
  }

  async cancel(button, id) {
    button.disabled = true;
    try {
      await post(`model-reviews/${id}/cancel`);
    } catch (error) {
      if (error.status !== 409) toast(error.text); // else its review has come in the same moment
    }
    await this.look();
  }

  async send(record, reviewer) {
    const asked = await post(`projects/${this.page.id}/model-reviews`, { record, reviewer });
    this.watched.set(asked.id, 'running');
    this.page.open('reviews');
    this.look();
    return asked;
  }

  /** The sheet for a version. */
  async choose(version) {
    const choice = await reviewerChoice();
    if (!choice) return;
    await sheet({ title: 'p.ask', ok: 'p.ask.ok', send: () => (choice.value() ? this.send(version.record, choice.value()) : undefined) },
      el('p', { class: 'dq-tip', t: 'p.ask.tip' }), choice.node, comparedWith(this.page, version));
  }
}
