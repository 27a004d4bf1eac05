// A change of words: what the picture shows now, how much of it stays, which words count more, where it may change.
import { el, iconButton, t, toast } from './base.js';
import { clearErrors } from './fields.js';
import { choice, slider } from './parts.js';

const MOST = { weights: 32, local: 16 };
const FRESH = { weights: { word: '', weight: 1.5 }, local: { source: '', target: '' } };
const UNTOUCHED = { source_prompt: '', as_painted: true, technique: 'prompt_to_prompt', inversion: '', alignment: '', weights: [], cross_share: 0.4, self_share: 0.6, local: [], local_threshold: 0.3, edit_threshold: 0.9, skip: 0.15 };
const INVERSIONS = ['auto', 'direct', 'ddim', 'null_text', 'negative_prompt'];

export class Rewording {
  /** @param app {set(values), value} */
  constructor(app) {
    this.app = app;
    this.state = { ...UNTOUCHED };
    this.brought = null; // words that came with a picture: they go when another one comes
    this.node = el('section', { class: 'dq-extra dq-words-section', id: 'f-words', tAria: 'w.title' });
    this.render();
  }

  relabel() {
    this.show();
  }

  tell(values) {
    Object.assign(this.state, values);
    this.app.set({ words: this.state });
    this.show();
  }

  /** Model, size and sampling are the picture's own: their fields are not to be seen. */
  show() {
    const picture = Boolean(this.app.value?.image);
    this.follow.hidden = !picture;
    document.body.classList.toggle('on-as_painted', picture && this.state.as_painted);
    const ledits = this.state.technique === 'ledits';
    for (const [field, seen] of this.depending) field.hidden = seen !== ledits;
    this.threshold.hidden = ledits || this.state.local.length === 0;
    for (const name of ['weights', 'local']) this.adders[name].hidden = this.state[name].length >= MOST[name];
  }

  /** Put the words of a Request here; what it does not say is as on an untouched page. */
  setAll(words, prefilled = null) {
    this.brought = prefilled;
    this.state = { ...UNTOUCHED, ...words, weights: [...(words.weights ?? [])], local: [...(words.local ?? [])] };
    this.app.set({ words: this.state });
    this.render();
  }

  /** Another picture is there: words that came with the one before do not tell of it. */
  otherPicture() {
    if (this.brought !== null && this.brought === this.state.source_prompt) {
      this.state.source_prompt = '';
      this.source.querySelector('textarea').value = '';
      this.app.set({ words: this.state });
    }
    this.brought = null;
    this.show();
  }

  render() {
    const { state } = this;
    const share = (name, more = {}) => slider(`f.${name}`, { id: `f-${name}`, value: state[name], set: (value) => this.tell({ [name]: value }), ...more });
    this.source = this.area();
    this.follow = this.check();
    this.adders = {};
    this.threshold = share('local_threshold', { low: 0.05, high: 0.95 });
    const strength = [share('cross_share'), share('self_share')];
    const expert = this.expert(share);
    const lists = [this.list('weights', (row, index) => [this.word('weights', index, 'word'), this.number(row, index)]), this.list('local', (row, index) => [this.word('local', index, 'source'), el('span', { class: 'dq-becomes', 'aria-hidden': 'true', text: '→' }), this.word('local', index, 'target')])];
    this.depending = [...strength.map((field) => [field, false]), ...lists.map((field) => [field, false]), ...expert.depending];
    this.node.replaceChildren(el('h3', { t: 'w.title' }), el('p', { class: 'dq-tip', t: 'w.tip' }), this.source,
      el('p', { class: 'dq-hint', t: 'w.replay' }), this.follow, ...strength, ...lists, this.threshold, expert.node);
    this.show();
  }

  area() {
    const area = el('textarea', { rows: '2', maxlength: '20000', tAria: 'f.source_prompt', tPlaceholder: 'w.source.example' });
    area.value = this.state.source_prompt;
    area.addEventListener('input', () => this.tell({ source_prompt: area.value }));
    return el('label', { class: 'dq-field', id: 'f-source_prompt' }, el('span', { t: 'f.source_prompt' }), el('span', { class: 'dq-tip', t: 'f.source_prompt.tip' }), area);
  }

  check() {
    const box = el('input', { type: 'checkbox' });
    box.checked = this.state.as_painted;
    box.addEventListener('change', () => this.tell({ as_painted: box.checked }));
    return el('label', { class: 'dq-field', id: 'f-as_painted' }, el('span', { class: 'dq-check' }, box, el('span', { t: 'f.as_painted' })), el('span', { class: 'dq-tip', t: 'f.as_painted.tip' }));
  }

  /** Rows of words with a button for one more. @param fields the inputs of a row */
  list(name, fields) {
    const rows = this.state[name].map((row, index) => el('div', { class: 'dq-word-row', id: `f-${name}.${index}`, role: 'group', tAria: `f.${name}` },
      ...fields(row, index), iconButton('close', 'remove', () => this.remove(name, index))));
    this.adders[name] = el('button', { type: 'button', class: 'dq-act', t: `w.${name}.add`, onclick: () => this.add(name) });
    return el('div', { class: 'dq-field', id: `f-${name}`, role: 'group', tAria: `f.${name}` }, el('span', { t: `f.${name}` }), el('span', { class: 'dq-tip', t: `f.${name}.tip` }),
      ...rows, el('div', { class: 'dq-row' }, this.adders[name]));
  }

  word(list, index, name) {
    const input = el('input', { type: 'text', maxlength: '256', tAria: `w.${name}`, tPlaceholder: `w.${name}`, spellcheck: 'false' });
    input.value = this.state[list][index][name];
    input.addEventListener('input', () => this.put(list, index, { [name]: input.value }));
    return el('span', { class: 'dq-word', id: `f-${list}.${index}.${name}` }, input);
  }

  number(row, index) {
    const input = el('input', { type: 'number', min: '-10', max: '10', step: '0.1', tAria: 'w.weight' });
    input.value = row.weight;
    input.addEventListener('input', () => this.put('weights', index, { weight: input.value === '' ? null : Number(input.value) }));
    return el('span', { class: 'dq-weight', id: `f-weights.${index}.weight` }, input);
  }

  put(list, index, values) {
    this.tell({ [list]: this.state[list].map((row, place) => (place === index ? { ...row, ...values } : row)) });
  }

  add(list) {
    if (this.state[list].length >= MOST[list]) return;
    this.tell({ [list]: [...this.state[list], { ...FRESH[list] }] });
    this.render();
    document.getElementById(`f-${list}.${this.state[list].length - 1}`)?.querySelector('input').focus();
  }

  remove(list, index) {
    clearErrors();
    const before = this.state[list];
    this.tell({ [list]: before.filter((_, place) => place !== index) });
    this.render();
    this.adders[list].focus();
    toast(t('w.removed'), { text: t('s.restore'), run: () => { this.tell({ [list]: before }); this.render(); } });
  }

  expert(share) {
    const { state } = this;
    const pick = (name, options) => choice(`f.${name}`, { id: `f-${name}`, options, value: state[name] || 'auto', set: (value) => this.tell({ [name]: value === 'auto' ? '' : value }) });
    const ways = [pick('inversion', INVERSIONS), pick('alignment', ['auto', 'replace', 'refine'])];
    const ledits = [share('edit_threshold', { low: 0.05, high: 0.95 }), share('skip', { high: 0.95 })];
    const node = el('details', { class: 'dq-expert' }, el('summary', { t: 'w.expert' }), pick('technique', ['prompt_to_prompt', 'ledits']), ...ways, ...ledits);
    return { node, depending: [...ways.map((field) => [field, false]), ...ledits.map((field) => [field, true])] };
  }
}
