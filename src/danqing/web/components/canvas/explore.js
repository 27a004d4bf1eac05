// The fold "Compare": up to three axes, how many pictures they make, the running comparison and earlier ones.
import { ask, el, known, language, post, t, toast } from './base.js';
import { unfold } from './fields.js';
import { Sheet, titled } from './exploresheet.js';

const LETTERS = ['x', 'y', 'z'];
const PAUSE_MS = 350;
const POLL_MS = 700;
const PATIENCE_MS = 30_000;
const FIRST = 'guidance';
const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** One axis: what is tried out, and its values. */
class AxisRow {
  /** @param letter x, y or z; @param changed() */
  constructor(letter, changed) {
    this.letter = letter;
    this.examples = {};
    this.select = el('select', { tAria: `x.axis.${letter}` });
    this.input = el('input', { type: 'text', class: 'dq-axis-values', tAria: 'x.values', autocomplete: 'off', spellcheck: 'false', maxlength: 4000 });
    this.tip = el('p', { class: 'dq-tip' });
    this.example = el('button', { type: 'button', class: 'dq-link', onclick: () => this.useExample() });
    this.wrong = el('div', { class: 'dq-wrong', role: 'alert', hidden: true });
    this.more = el('div', { class: 'dq-axis-more' }, this.input, this.tip, this.example);
    this.node = el('div', { class: 'dq-field dq-axis', id: `f-explore.${letter}` }, el('span', { t: `x.axis.${letter}` }), this.select, this.more, this.wrong);
    this.changed = changed;
    this.select.addEventListener('change', () => { this.input.value = ''; this.draw(); changed(); });
    this.input.addEventListener('input', () => { this.fail(null); changed(); });
  }

  /** @param groups [{name, axes: [{key, example}]}] */
  fill(groups) {
    const none = this.letter === 'x' ? [] : [el('option', { value: '', t: 'x.none' })];
    const options = ({ name, axes }) => el('optgroup', { tLabel: `x.group.${name}` }, ...axes.map(({ key }) => el('option', { value: key, t: `ax.${key}` })));
    this.select.replaceChildren(...none, ...groups.map(options));
    this.examples = Object.fromEntries(groups.flatMap(({ axes }) => axes.map(({ key, example }) => [key, example])));
    this.select.value = this.letter === 'x' ? FIRST : '';
    this.draw();
  }

  get value() {
    return this.select.value ? { axis: this.select.value, values: this.input.value } : null;
  }

  set({ axis, values }) {
    this.select.value = axis;
    this.input.value = values;
    this.draw();
  }

  useExample() {
    this.input.value = this.examples[this.select.value];
    this.input.focus();
    this.fail(null);
    this.changed();
  }

  draw() {
    const key = this.select.value;
    this.more.hidden = !key;
    this.fail(null);
    if (!key) return;
    this.tip.textContent = known(`ax.${key}.tip`) ? t(`ax.${key}.tip`) : '';
    this.input.placeholder = this.examples[key];
    this.example.textContent = t('x.example', { values: this.examples[key] });
  }

  /** Say what is wrong here: {text, original}, or null for nothing. */
  fail(error) {
    this.wrong.hidden = !error;
    this.input.setAttribute('aria-invalid', String(Boolean(error)));
    if (!error) { this.wrong.replaceChildren(); return; }
    this.wrong.replaceChildren(el('span', { text: error.text }));
    if (error.original && language() !== 'en') this.wrong.append(el('details', {}, el('summary', { t: 's.original' }), el('span', { lang: 'en', text: error.original })));
  }
}

export class Explore {
  /** @param app {trigger(name, data), refuse(error), openRecord(id), history} */
  constructor(app) {
    this.app = app;
    this.found = null; // the comparison that is watched or was opened
    this.earlier = [];
    this.count = null;
    this.timer = 0;
    this.sheet = new Sheet(app, () => this.stop());
    this.rows = LETTERS.map((letter) => new AxisRow(letter, () => this.changed()));
    this.vary = el('input', { type: 'checkbox' });
    this.number = el('output', { class: 'dq-axis-count', role: 'status' });
    this.button = el('button', { type: 'button', class: 'dq-act dq-explore-all', t: 'x.paint', onclick: () => this.start() });
    this.bar = el('div', { class: 'dq-bar' });
    this.line = el('span', { class: 'dq-explore-line', role: 'status' });
    this.halt = el('button', { type: 'button', class: 'dq-act dq-explore-stop', t: 'x.stop', onclick: () => this.stop() });
    this.now = el('div', { class: 'dq-explore-now', hidden: true }, el('div', { class: 'dq-track' }, this.bar), this.line,
      el('div', { class: 'dq-row' }, el('button', { type: 'button', class: 'dq-act dq-explore-show', t: 'x.show', onclick: () => this.sheet.open(this.found) }), this.halt));
    this.list = el('div', { class: 'dq-explore-list' });
    this.past = el('details', { class: 'dq-more', hidden: true }, el('summary', { t: 'x.earlier' }), this.list);
    this.node = el('div', { class: 'dq-explore' }, el('p', { class: 'dq-tip', t: 'x.intro' }), ...this.rows.map(({ node }) => node),
      el('label', { class: 'dq-check' }, this.vary, el('span', { t: 'x.vary' })),
      el('div', { class: 'dq-explore-go' }, this.number, this.button), this.now, this.past);
    this.load();
  }

  async load() {
    try {
      const { groups } = await ask('explore/axes');
      for (const row of this.rows) row.fill(groups);
      this.draw();
      await this.refresh();
      const newest = this.earlier[0] && (await ask(`explore/${this.earlier[0].id}`));
      if (newest?.waiting && !this.found) this.follow(newest.id, new Set(newest.cells.map(({ record }) => record))); // the page was loaded again
    } catch {
      // the header says that the studio does not answer
    }
  }

  async refresh() {
    this.earlier = (await ask('explore')).explorations;
    this.drawEarlier();
  }

  relabel() {
    for (const row of this.rows) if (row.select.options.length) row.draw();
    this.draw();
    this.drawNow();
    this.drawEarlier();
    this.sheet.relabel();
  }

  get axes() {
    return Object.fromEntries(this.rows.filter(({ node, value }) => !node.hidden && value).map(({ letter, value }) => [letter, value]));
  }

  // how many ----------------------------------------------------------------------------------------------------------
  changed() {
    this.count = null;
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.countAll(), PAUSE_MS);
  }

  async countAll() {
    const asked = JSON.stringify(this.axes);
    const { count, errors } = await ask('explore/count', { method: 'POST', body: asked, headers: { 'Content-Type': 'application/json' } }).catch(() => ({ count: null, errors: {} }));
    if (asked !== JSON.stringify(this.axes)) return; // another value stands there by now
    this.count = count;
    for (const row of this.rows) row.fail(errors[row.letter] ?? null);
    this.draw();
  }

  draw() {
    const [, y, z] = this.rows;
    z.node.hidden = !y.value;
    this.number.textContent = this.count === null ? '' : this.words(this.count);
  }

  words(count) {
    return count === 1 ? t('x.count.one') : t('x.count', { count });
  }

  // painting ----------------------------------------------------------------------------------------------------------
  start() {
    if (this.button.disabled) return;
    this.button.disabled = true; // until the studio has answered, or a long time without an answer
    this.patience = setTimeout(() => { this.button.disabled = false; }, PATIENCE_MS);
    for (const row of this.rows) row.fail(null);
    this.app.trigger('explore', { axes: this.axes, vary: this.vary.checked });
  }

  /** The studio's answer: {id} of a comparison, or {error}. */
  async take({ id = null, error = null }) {
    clearTimeout(this.patience);
    this.button.disabled = false;
    const row = error?.field?.startsWith('explore.') && this.rows.find(({ letter }) => error.field === `explore.${letter}`);
    if (row) {
      await unfold('explore', error.field);
      row.fail(error);
      row.node.scrollIntoView({ block: 'center', behavior: 'smooth' });
      row.input.focus({ preventScroll: true });
    } else if (error) {
      this.app.refuse(error);
    } else {
      document.dispatchEvent(new Event('dq:queue'));
      this.refresh().catch(() => {});
      await this.follow(id, new Set(), true);
    }
  }

  /** Watch a comparison to its end. @param seen Records that the history strip has; @param show whether its sheet opens */
  async follow(id, seen, show = false) {
    const turn = {};
    this.turn = turn;
    for (let first = true; this.turn === turn; first = false) {
      let found;
      try {
        found = await ask(`explore/${id}`);
      } catch (error) {
        toast(error.text);
        return;
      }
      if (this.turn !== turn) return;
      this.found = found;
      this.drawNow();
      if (first && show) this.sheet.open(found);
      else this.sheet.update(found);
      for (const { record } of found.cells.filter((cell) => cell.record && !seen.has(cell.record))) {
        seen.add(record);
        await this.app.history.add(record);
      }
      if (!found.waiting) return;
      await wait(Math.max(POLL_MS, found.cells.length * 10));
    }
  }

  async stop() {
    const { found } = this;
    if (!found?.waiting) return;
    try {
      await post(`explore/${found.id}/cancel`, {});
      toast(t('x.stopped'));
    } catch (error) {
      toast(error.text);
    }
  }

  drawNow() {
    const { found } = this;
    this.now.hidden = !found;
    if (!found) return;
    const done = found.cells.filter(({ record }) => record).length;
    this.bar.style.transform = `scaleX(${(found.cells.length - found.waiting) / found.cells.length})`;
    this.line.textContent = t('x.done', { done, count: found.cells.length });
    this.halt.hidden = !found.waiting;
  }

  // earlier ones --------------------------------------------------------------------------------------------------------
  drawEarlier() {
    this.past.hidden = this.earlier.length === 0;
    const when = (text) => new Date(text).toLocaleString(language(), { dateStyle: 'short', timeStyle: 'short' });
    this.list.replaceChildren(...this.earlier.map(({ id, keys, count, prompt, created_at: made }) => el('button', { type: 'button', class: 'dq-explore-past', 'data-exploration': id, onclick: () => this.reopen(id) },
      el('strong', { text: titled(keys) }), el('span', { text: prompt }), el('span', { class: 'dq-tip', text: `${this.words(count)} · ${when(made)}` }))));
  }

  async reopen(id) {
    try {
      const found = await ask(`explore/${id}`);
      this.sheet.open(found);
      if (found.waiting && this.found?.id !== id) this.follow(id, new Set(found.cells.map(({ record }) => record)));
    } catch (error) {
      toast(error.text);
    }
  }
}
