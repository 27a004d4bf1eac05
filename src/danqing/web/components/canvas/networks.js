// LoRA, embeddings and hypernetworks to click into the brief: found for the model at hand, filtered, weighed.
import { ask, el, icon, iconButton, t, toast, type, url } from './base.js';
import { arrival } from './fields.js';
import { find, put, take, weigh, without, written } from './promptwords.js';

const KINDS = ['lora', 'embedding', 'hypernetwork'];
const FIELDS = { prompt: '#f-prompt textarea', negative: '#f-negative_prompt textarea' };
const PAGE = 48;
const WORDS_PUT = 3;
const SPAN = { min: -5, max: 5, step: 0.05 };

export class Networks {
  constructor() {
    this.kind = 'lora';
    this.into = 'prompt';
    this.model = '';
    this.base = '';
    this.cards = null; // unknown until asked
    this.failure = '';
    this.shown = PAGE;
    this.faces = [];
    this.button = el('button', { type: 'button', class: 'dq-link', t: 'n.title', 'aria-expanded': 'false', 'aria-controls': 'dq-networks', onclick: () => this.toggle() });
    this.panel = el('section', { class: 'dq-card dq-nets', id: 'dq-networks', tAria: 'n.title', hidden: true });
    this.panel.addEventListener('keydown', (event) => this.key(event));
    arrival(FIELDS.negative).then(() => {
      document.querySelector('#f-prompt .dq-above').prepend(this.button);
      document.querySelector('#f-prompt').append(this.panel);
      for (const [name, selector] of Object.entries(FIELDS)) {
        const field = document.querySelector(selector);
        field.addEventListener('focus', () => { field.dataset.caret = 'set'; this.aim(name); });
        field.addEventListener('input', () => this.sync());
      }
    });
  }

  get open() {
    return !this.panel.hidden;
  }

  toggle() {
    this.panel.hidden = this.open;
    this.button.setAttribute('aria-expanded', String(this.open));
    if (!this.open) return;
    this.build();
    this.load();
    this.filter.focus({ preventScroll: true });
  }

  close() {
    this.panel.hidden = true;
    this.button.setAttribute('aria-expanded', 'false');
    this.button.focus();
  }

  relabel() {
    this.button.textContent = t('n.title');
    if (this.open) this.build();
  }

  /** Another model: what fits is another thing. */
  setModel(model) {
    if (model === this.model) return;
    this.model = model;
    if (this.open) this.load();
    else this.cards = null;
  }

  /** Where embeddings go: into the field that was written in last. */
  aim(name) {
    this.into = name;
    for (const button of this.panel.querySelectorAll('[data-into]')) button.setAttribute('aria-pressed', String(button.dataset.into === name));
    this.sync();
  }

  /** What there is for the model at hand, asked for where it is not known yet. */
  async known() {
    if (this.cards === null) await this.load();
    return this.cards ?? [];
  }

  async load() {
    const { model } = this;
    this.failure = '';
    try {
      const answer = await ask(`networks?${new URLSearchParams({ model })}`);
      if (model !== this.model) return;
      this.cards = answer.networks.map((card) => ({ ...card, ...spoken(card) }));
      this.base = answer.family;
    } catch (error) {
      if (model !== this.model) return;
      this.cards ??= [];
      this.failure = error.text;
    }
    if (this.open) this.build();
  }

  // the panel -----------------------------------------------------------------------------------------------------
  build() {
    const before = this.filter?.value ?? '';
    const hadFocus = this.panel.contains(document.activeElement) ? document.activeElement.dataset.keep : null;
    this.filter = el('input', { type: 'search', class: 'dq-search', tPlaceholder: 'n.filter', tAria: 'n.filter', 'data-keep': 'filter' });
    this.filter.value = before;
    this.filter.addEventListener('input', () => { this.shown = PAGE; this.fill(); });
    this.list = el('div', { class: 'dq-net-list', id: 'dq-net-list', role: 'tabpanel' });
    this.panel.replaceChildren(
      el('div', { class: 'dq-card-head' }, el('strong', { t: 'n.title' }), el('span', { class: 'dq-spring' }),
        iconButton('reuse', 'n.refresh', () => this.load(), { 'data-keep': 'refresh' }), iconButton('close', 's.close', () => this.close())),
      this.tabs(), this.filter, ...(this.kind === 'embedding' ? [this.targets()] : []), this.list);
    this.fill();
    if (hadFocus) this.panel.querySelector(`[data-keep="${hadFocus}"]`)?.focus({ preventScroll: true });
  }

  tabs() {
    const count = (kind) => this.cards?.filter((card) => card.kind === kind && !card.misfit).length ?? 0;
    return el('div', { class: 'dq-tabs', role: 'tablist', tAria: 'n.kinds' }, ...KINDS.map((kind) => el('button', {
      type: 'button', role: 'tab', 'aria-selected': String(kind === this.kind), 'aria-controls': 'dq-net-list', 'data-kind': kind, 'data-keep': `tab-${kind}`,
      tabindex: kind === this.kind ? '0' : '-1', onclick: () => this.choose(kind),
    }, el('span', { t: `n.kind.${kind}` }), el('span', { class: 'dq-count', text: String(count(kind)) }))));
  }

  choose(kind) {
    this.kind = kind;
    this.shown = PAGE;
    this.build();
    this.panel.querySelector('[role=tab][aria-selected=true]').focus();
  }

  targets() {
    const button = (name, key) => el('button', { type: 'button', t: key, 'data-into': name, 'aria-pressed': String(this.into === name), onclick: () => this.aim(name) });
    return el('div', { class: 'dq-into', role: 'group', tAria: 'n.into' }, el('span', { t: 'n.into' }),
      el('span', { class: 'dq-sides' }, button('prompt', 'prompt'), button('negative', 'negative')));
  }

  fill() {
    const wanted = this.filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const own = (this.cards ?? []).filter((card) => card.kind === this.kind);
    const found = own.filter((card) => wanted.every((word) => card.text.includes(word)));
    const fitting = found.filter((card) => !card.misfit);
    const others = found.filter((card) => card.misfit);
    this.faces = [];
    const shown = fitting.slice(0, this.shown).map((card) => this.face(card));
    this.list.replaceChildren(...[
      this.note(own, found, fitting),
      shown.length ? el('div', { class: 'dq-net-grid' }, ...shown) : null,
      fitting.length > this.shown ? el('button', { type: 'button', class: 'dq-act', t: 'n.more', onclick: () => { this.shown += PAGE; this.fill(); } }) : null,
      others.length ? this.misfits(others, fitting.length === 0 && wanted.length > 0) : null,
    ].filter(Boolean));
    this.sync();
  }

  /** What is to be said where nothing is to be seen. */
  note(own, found, fitting) {
    if (this.failure) return el('p', { class: 'dq-wrong', role: 'alert', text: this.failure });
    if (this.cards === null) return el('p', { class: 'dq-tip', role: 'status', t: 'n.looking' });
    if (own.length === 0) return el('p', { class: 'dq-hint', t: `n.none.${this.kind}` });
    if (found.length === 0) return el('p', { class: 'dq-tip', role: 'status', text: t('s.history.none', { text: this.filter.value.trim() }) });
    return fitting.length ? null : el('p', { class: 'dq-tip', text: t('n.none.fits', { model: this.base }) });
  }

  misfits(cards, open) {
    return el('details', { class: 'dq-more', open }, el('summary', { text: t('n.misfits', { count: cards.length }) }),
      el('ul', { class: 'dq-net-others' }, ...cards.slice(0, this.shown).map((card) =>
        el('li', { title: card.why, lang: null }, el('strong', { text: card.title }), ' ', el('span', { text: this.reason(card) })))));
  }

  reason(card) {
    if (card.misfit === 'unreadable') return t('n.misfit.unreadable');
    return card.misfit === 'family' && card.made_for ? t('n.misfit.family', { family: madeFor(card) }) : t('n.misfit.width');
  }

  face(card) {
    const family = madeFor(card);
    const label = [card.title, family, card.shownWords].filter(Boolean).join(' · ');
    const letter = () => el('span', { class: 'dq-net-letter', 'aria-hidden': 'true', text: [...card.title][0]?.toUpperCase() ?? '' });
    const picture = card.preview ? el('img', { src: url(card.preview), alt: '', loading: 'lazy', decoding: 'async' }) : letter();
    if (card.preview) picture.addEventListener('error', () => picture.replaceWith(letter()));
    const button = el('button', { type: 'button', class: 'dq-net-face', 'aria-label': label, title: card.tip, onclick: () => this.press(card) },
      el('span', { class: 'dq-net-picture' }, picture, el('span', { class: 'dq-net-in' }, icon('check'))),
      el('span', { class: 'dq-net-title', text: card.title }),
      family ? el('span', { class: 'dq-net-family', text: family }) : null,
      card.shownWords ? el('span', { class: 'dq-net-words', text: card.shownWords }) : null);
    const weight = el('input', { type: 'number', ...SPAN, inputmode: 'decimal', 'aria-label': t('n.weight.of', { name: card.title }) });
    weight.addEventListener('change', () => this.reweigh(card, Number(weight.value)));
    const foot = el('label', { class: 'dq-net-weight', hidden: true }, el('span', { t: 'l.weight' }), weight);
    this.faces.push({ card, button, weight, foot });
    return el('div', { class: 'dq-net' }, button, foot);
  }

  // the brief -----------------------------------------------------------------------------------------------------
  /** The field that a network stands in, or goes into; tags count in the brief alone. */
  fieldOf(card) {
    const places = card.kind === 'embedding' ? [this.into, 'prompt', 'negative'] : ['prompt'];
    const holding = places.map((name) => document.querySelector(FIELDS[name])).find((field) => field && find(field.value, card));
    return { field: holding ?? document.querySelector(FIELDS[places[0]]), holds: Boolean(holding) };
  }

  press(card) {
    const { field, holds } = this.fieldOf(card);
    const negative = document.querySelector(FIELDS.negative);
    if (holds) {
      this.write(field, take(field.value, card, card.seam));
      if (card.negative_words) this.write(negative, without(negative.value, card.negative_words));
      return;
    }
    const touched = field.selectionStart !== 0 || field.dataset.caret === 'set';
    const place = touched ? { start: field.selectionStart, end: field.selectionEnd } : { start: field.value.length, end: field.value.length };
    const { text, caret, seam } = put(field.value, card, card.preferred_weight ?? 1, place);
    card.seam = seam;
    this.write(field, text, caret);
    if (card.negative_words && !negative.value.toLowerCase().includes(card.negative_words.toLowerCase())) {
      this.write(negative, [negative.value.replace(/[\s,，]+$/, ''), card.negative_words].filter(Boolean).join(', '));
    }
  }

  reweigh(card, weight) {
    const { field, holds } = this.fieldOf(card);
    if (!holds || !Number.isFinite(weight)) return this.sync();
    const inside = Math.min(SPAN.max, Math.max(SPAN.min, weight));
    if (inside !== weight) toast(t('n.weight.span', { low: SPAN.min, high: SPAN.max }));
    return this.write(field, weigh(field.value, card, inside));
  }

  /** Put a text into a field and leave the focus where it is: a phone would show its keyboard. */
  write(field, text, caret = text.length) {
    type(field, text, { focus: false });
    field.setSelectionRange(caret, caret);
    this.sync();
  }

  /** Show which of the networks stand in the brief, and with which weight. */
  sync() {
    if (!this.open) return;
    for (const { card, button, weight, foot } of this.faces) {
      const { field, holds } = this.fieldOf(card);
      const found = holds ? find(field.value, card) : null;
      button.setAttribute('aria-pressed', String(holds));
      foot.hidden = !holds;
      weight.disabled = found !== null && found.weight === null;
      if (document.activeElement !== weight) weight.value = found?.weight === null || !found ? '' : written(found.weight);
    }
  }

  // keys ----------------------------------------------------------------------------------------------------------
  key(event) {
    const { key, target } = event;
    if (key === 'Escape') {
      event.preventDefault();
      this.close();
    } else if (target.getAttribute('role') === 'tab' && ['ArrowLeft', 'ArrowRight', 'Home', 'End'].includes(key)) {
      event.preventDefault();
      const at = KINDS.indexOf(this.kind);
      const step = { ArrowLeft: at + KINDS.length - 1, ArrowRight: at + 1, Home: 0, End: KINDS.length - 1 }[key];
      this.choose(KINDS[step % KINDS.length]);
    } else if (target.classList.contains('dq-net-face')) this.walk(event);
    else if (target === this.filter && key === 'ArrowDown') {
      event.preventDefault();
      this.faces[0]?.button.focus();
    }
  }

  /** Arrows go from card to card. */
  walk(event) {
    const columns = getComputedStyle(this.list.querySelector('.dq-net-grid')).gridTemplateColumns.split(' ').length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = this.faces.findIndex(({ button }) => button === event.target) + step;
    if (at < 0) this.filter.focus();
    else this.faces[Math.min(at, this.faces.length - 1)].button.focus();
  }
}

/** The family a network is for; the name of our own is said in the page's language. */
const madeFor = (card) => (card.family === 'danqing' ? t('n.family.danqing') : card.made_for);

/** What a card says and is found by. */
function spoken(card) {
  const stem = card.name.split('/').at(-1);
  const called = card.kind === 'embedding' ? card.words : card.trigger_words;
  const words = card.kind === 'embedding' ? '' : card.trigger_words.slice(0, WORDS_PUT).join(', ');
  const names = card.kind === 'embedding' ? [card.written, ...card.words] : [card.written, card.name, stem, card.alias];
  return {
    title: stem,
    words,
    shownWords: card.kind === 'embedding' && called.length < 2 ? '' : called.join(', '),
    name: card.written,
    names: [...new Set(names.filter(Boolean))].sort((a, b) => b.length - a.length),
    tip: [card.name, card.alias, called.join(', '), card.description.replace(/<[^>]*>/g, ' ')].filter(Boolean).join('\n'),
    text: [card.name, card.alias, card.made_for, card.base_model, ...called].join(' ').toLowerCase(),
  };
}
