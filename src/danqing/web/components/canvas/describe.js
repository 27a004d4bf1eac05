// "Describe a picture": a caption and tags in the page's language, put into the brief only when the person says so.
import { ask, el, iconButton, language, post, t, toast, type } from './base.js';
import { arrival } from './fields.js';
import { choosePicture } from './slot.js';

const BRIEF = '#f-prompt textarea';

export class Describe {
  /** @param app {addressOf(ref), withCanvasPicture(take)} */
  constructor(app) {
    this.app = app;
    this.state = { kind: 'closed' };
    this.asked = 0;
    this.tags = new Set();
    this.lookers = null;
    this.looker = 'builtin';
    this.button = el('button', { type: 'button', class: 'dq-link dq-describe', t: 'd.title', 'aria-expanded': 'false', 'aria-controls': 'dq-proposal', onclick: () => this.toggle() });
    this.panel = el('div', { class: 'dq-card dq-proposal', id: 'dq-proposal', role: 'group', tAria: 'd.title', hidden: true });
    arrival('#f-prompt').then((field) => field.append(el('div', { class: 'dq-above' }, this.button), this.panel));
  }

  toggle() {
    this.set(this.state.kind === 'closed' ? { kind: 'choose' } : { kind: 'closed' });
    if (this.state.kind === 'choose' && this.lookers === null) this.meet();
    if (this.state.kind === 'choose') this.panel.querySelector('.dq-act')?.focus();
  }

  /** Ask who can look; without an answer the built-in one does. */
  async meet() {
    this.lookers = [];
    try {
      this.lookers = (await ask('interrogators')).interrogators;
    } catch {
      return;
    }
    if (this.lookers.length > 1 && this.state.kind === 'choose') this.relabel();
  }

  set(state) {
    this.state = state;
    this.asked += 1;
    this.relabel();
  }

  relabel() {
    const { kind } = this.state;
    this.panel.hidden = kind === 'closed';
    this.button.textContent = t('d.title');
    this.button.setAttribute('aria-expanded', String(kind !== 'closed'));
    const body = { closed: () => [], choose: () => this.choosing(), busy: () => this.busy(), done: () => this.done(), failed: () => this.failed() }[kind]();
    this.panel.replaceChildren(el('div', { class: 'dq-card-head' }, el('strong', { t: 'd.title' }), el('span', { class: 'dq-spring' }),
      iconButton('close', 's.close', () => { this.set({ kind: 'closed' }); this.button.focus(); })), ...body);
  }

  sources() {
    return el('div', { class: 'dq-row' },
      el('button', { type: 'button', class: 'dq-act', t: 'choose', onclick: () => choosePicture((ref) => this.take(ref)) }),
      el('button', { type: 'button', class: 'dq-act', t: 'd.canvas', onclick: () => this.app.withCanvasPicture((ref) => this.take(ref)) }),
      ...this.choice());
  }

  /** Who is to look, where there is a choice. */
  choice() {
    if ((this.lookers ?? []).length < 2) return [];
    const options = this.lookers.map(({ key, name }) => el('option', { value: key, text: name }));
    const select = el('select', { tAria: 'd.looker' }, ...options);
    select.value = this.looker;
    select.addEventListener('change', () => { this.looker = select.value; });
    return [select];
  }

  choosing() {
    return [el('p', { class: 'dq-tip', t: 'd.tip' }), this.sources()];
  }

  thumb() {
    return el('img', { class: 'dq-small', src: this.app.addressOf(this.state.ref), alt: '' });
  }

  busy() {
    return [el('div', { class: 'dq-seen' }, this.thumb(), el('p', { role: 'status', t: 'd.busy' }))];
  }

  failed() {
    const { text, original } = this.state.error;
    const more = original && original !== text ? el('details', {}, el('summary', { t: 's.original' }), el('p', { lang: 'en', text: original })) : null;
    return [el('div', { class: 'dq-wrong', role: 'alert' }, el('span', { text }), more), this.sources()];
  }

  get words() {
    return this.state.words[language()] ?? this.state.words.en;
  }

  done() {
    const { caption, tags } = this.words;
    this.text = el('p', { class: 'dq-caption', role: 'status', text: caption });
    const chips = tags.map((tag) => {
      const chip = el('button', { type: 'button', class: 'dq-tag', 'aria-pressed': String(this.tags.has(tag)), text: tag });
      chip.addEventListener('click', () => {
        if (!this.tags.delete(tag)) this.tags.add(tag);
        chip.setAttribute('aria-pressed', String(this.tags.has(tag)));
        this.text.textContent = this.proposal();
      });
      return chip;
    });
    this.text.textContent = this.proposal();
    const act = (key, run) => el('button', { type: 'button', class: 'dq-act', t: key, onclick: run });
    return [el('div', { class: 'dq-seen' }, this.thumb(), this.text),
      ...(chips.length ? [el('p', { class: 'dq-tip', t: 'd.tags' }), el('div', { class: 'dq-tags' }, ...chips)] : []),
      el('div', { class: 'dq-row' }, act('d.append', () => this.put(true)), act('d.replace', () => this.put(false)))];
  }

  get comma() {
    return language() === 'en' ? ', ' : '，';
  }

  proposal() {
    const { caption, tags } = this.words;
    return [caption, ...tags.filter((tag) => this.tags.has(tag))].join(this.comma);
  }

  /** Have a picture looked at. */
  async take(ref) {
    this.tags.clear();
    this.set({ kind: 'busy', ref });
    const { asked } = this;
    let next;
    try {
      next = { kind: 'done', ref, words: (await post('interrogate', { image: ref, interrogator: this.looker })).words };
    } catch (error) {
      next = { kind: 'failed', error };
    }
    if (asked === this.asked) this.set(next);
  }

  put(append) {
    const before = document.querySelector(BRIEF).value;
    const kept = append ? before.replace(/[\s,，]+$/, '') : '';
    type(BRIEF, kept ? kept + this.comma + this.proposal() : this.proposal());
    this.set({ kind: 'closed' });
    toast(t('d.put'), { text: t('s.restore'), run: () => type(BRIEF, before) });
  }
}
