// One suggestion of a review: its words and place, painting it as it is or changed first, and what came of it.
import { el, language as pageLanguage, relabel, t, toast } from '../canvas/base.js';
import { patch, post, thumbOf } from './api.js';
import { JobLine } from './jobs.js';
import { byModel } from './picture.js';
import { check, field, sheet } from './sheets.js';
import { told as inWords } from './told.js';

const percent = (value) => `${Math.round(value * 100)}%`;

export class SuggestionLine {
  /** @param page {choose(record), pointing(suggestion, record), changed(), find(record), name(version)} */
  constructor(page) {
    this.page = page;
    this.job = null;
    this.failed = '';
    this.seen = new Set(); // jobs watched once: an answer that was on its way may still name an older one
    this.node = el('li', { class: 'dp-suggestion', tabindex: '-1' });
    const point = (on) => () => page.pointing(on ? this.suggestion.id : null, this.review.record_id);
    this.node.addEventListener('pointerenter', point(true));
    this.node.addEventListener('pointerleave', point(false));
    this.node.addEventListener('focusin', point(true));
  }

  /** @param number of its mark on the picture */
  show(suggestion, review, number) {
    Object.assign(this, { suggestion, review, number });
    this.node.dataset.suggestion = suggestion.id;
    this.node.dataset.state = suggestion.state;
    this.follow();
    this.draw();
  }

  relabel() {
    this.draw();
    relabel(this.node);
  }

  /** Watch the job that paints it, once, until its results are there. */
  follow() {
    const { job, results, state } = this.suggestion;
    if (job && !results.length && state === 'applied') this.watch(job);
  }

  watch(job) {
    if (this.seen.has(job)) return;
    this.job?.stop();
    this.seen.add(job);
    this.failed = '';
    this.job = new JobLine(job, (how, error) => {
      this.job = null;
      if (how === 'failed' || how === 'cancelled') this.failed = error?.text ?? t(how === 'cancelled' ? 's.cancelled' : 's.failed');
      this.draw();
      this.page.changed();
    });
  }

  stop() {
    this.job?.stop();
  }

  /** Draw what is new; a button stays under the finger where nothing is. */
  draw() {
    const { suggestion, review, number } = this;
    const known = suggestion.results.map((record) => this.page.find(record)?.number);
    const key = JSON.stringify([suggestion, number, this.failed, this.job?.id, known, pageLanguage()]);
    if (key === this.key) return;
    this.key = key;
    const { prompt, reason, strength, state, box, lasso, language } = suggestion;
    const place = box || lasso ? null : t('p.whole');
    const told = [place, t('p.strength', { strength: percent(strength) }), state === 'open' ? null : t(`p.is.${state}`)].filter(Boolean).join(' · ');
    this.node.replaceChildren(
      el('span', { class: `dp-mark-number ${state}${byModel(review.source)}`, text: String(number), 'aria-hidden': 'true' }),
      el('div', { class: 'dp-suggestion-body' },
        el('p', { class: 'dp-words', lang: language ?? review.language ?? '', text: prompt }),
        reason ? el('p', { class: 'dq-tip', lang: language ?? review.language ?? '', text: review.source === 'person' ? reason : inWords(reason) }) : null,
        el('p', { class: 'dp-told', text: told }),
        this.acts(), this.outcome()));
  }

  acts() {
    const { state } = this.suggestion;
    const button = (key, act, name, kind = 'dq-act') => el('button', { type: 'button', class: kind, t: key, 'data-act': name, onclick: (event) => this.run(event.currentTarget, act) });
    if (state === 'dismissed') return el('div', { class: 'dp-row' }, button('p.reopen', () => this.reopen(), 'reopen', 'dq-link'));
    if (state === 'applied' && !this.failed) return ''; // a job that failed can be tried again
    return el('div', { class: 'dp-row' },
      button('p.apply', () => this.paint({}), 'apply', 'dp-primary small'),
      button('p.edit', () => this.change(), 'edit'),
      button('p.dismiss', () => patch(`suggestions/${this.suggestion.id}`, { state: 'dismissed' }), 'dismiss', 'dq-link'));
  }

  reopen() {
    return patch(`suggestions/${this.suggestion.id}`, { state: 'open' });
  }

  async paint(body) {
    const job = await post(`suggestions/${this.suggestion.id}/apply`, body);
    this.watch(job.id);
    return job;
  }

  async run(button, act) {
    button.disabled = true;
    try {
      await act();
    } catch (error) {
      toast(error.text);
    }
    button.disabled = false;
    await this.page.changed();
  }

  /** What came of it: progress, pictures, or why it failed. */
  outcome() {
    const { results } = this.suggestion;
    if (this.job) return this.job.node;
    if (this.failed) return el('p', { class: 'dq-wrong', text: this.failed });
    if (!results.length) return '';
    const show = (record) => {
      const version = this.page.find(record);
      const name = version ? this.page.name(version) : t('p.picture');
      return el('button', { type: 'button', class: 'dp-result', 'data-record': record, 'aria-label': name, title: name, disabled: !version, onclick: () => this.page.choose(record) }, el('img', { src: thumbOf(record), alt: '', loading: 'lazy' }));
    };
    const [first] = results;
    return el('div', { class: 'dp-row dp-results' }, ...results.map(show),
      this.page.find(first) && this.page.find(this.review.record_id) ? el('button', { type: 'button', class: 'dq-link', t: 'v.compare', 'data-act': 'before-after', onclick: () => this.page.compare(first, this.review.record_id) }) : null,
      this.suggestion.state === 'applied' ? el('button', { type: 'button', class: 'dq-link', t: 'p.reopen', 'data-act': 'again', onclick: (event) => this.run(event.currentTarget, () => this.reopen()) }) : null);
  }

  /** Show the edit it would be; a person changes it, then it is painted. */
  async change() {
    const { id } = this.suggestion;
    const { request } = await post(`suggestions/${id}/draft`);
    const prompt = el('textarea', { rows: '3', maxlength: '20000', autofocus: true, name: 'prompt' });
    prompt.value = request.prompt;
    const strength = el('input', { type: 'range', min: '0', max: '1', step: '0.05', name: 'strength' });
    strength.value = request.strength ?? 0;
    const shown = el('output', { text: percent(strength.value) });
    strength.addEventListener('input', () => { shown.textContent = percent(strength.value); });
    const seed = el('input', { type: 'text', inputmode: 'numeric', pattern: '[0-9]*', maxlength: '20', name: 'seed' });
    seed.value = request.seed ?? '';
    const count = el('input', { type: 'number', min: '1', max: '8', step: '1', name: 'count' });
    count.value = request.count ?? 1;
    const show = check('p.edit.show', true);
    const strong = request.strength === undefined ? null : el('label', { class: 'dp-field' }, el('span', { class: 'dp-field-name' }, el('span', { t: 'f.strength' }), ' ', shown), el('span', { class: 'dq-tip', t: 'f.strength.tip' }), strength);
    await sheet({ title: 'p.edit.title', ok: 'paint', send: () => {
      const changes = { prompt: prompt.value, count: Number(count.value) || 1, seed: seed.value === '' ? null : seedOf(seed.value) };
      if (strong) changes.strength = Number(strength.value);
      return this.paint({ changes, show: show.box.checked });
    } },
      el('p', { class: 'dq-tip' }, el('span', { t: 'p.kind' }), el('span', { text: ': ' }), el('span', { t: `p.kind.${request.kind}` })),
      field('prompt', prompt), strong, el('div', { class: 'dp-pair' }, field('f.seed', seed), field('count', count)), this.review.share ? show.node : null);
  }
}

/** A seed as `api.js` sends it: past 2⁵³ as it is written, for a number of JavaScript would be another one. */
const seedOf = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : text.replace(/^0+/, ''));

