// A field of a training Request as a control, from the API's own description of it.
import { el, known, language, t } from '../canvas/base.js';

/** What a field is called: for this method, else for all; its own name where it is called nothing. */
const wordOf = (method, name, end = '') => [`tr.f.${method}.${name}${end}`, `tr.f.${name}${end}`].find(known) ?? null;

export class FieldInput {
  /** @param info a field of `GET training/methods` @param changed() something else stands there */
  constructor(method, info, changed) {
    this.info = info;
    this.input = this.made();
    this.input.name = info.name;
    this.input.addEventListener(this.input.matches('select, [type=checkbox]') ? 'change' : 'input', changed);
    this.wrong = el('span', { class: 'dq-wrong', role: 'alert', hidden: true });
    const key = wordOf(method, info.name);
    const name = el('span', { class: info.kind === 'boolean' ? '' : 'dp-field-name', ...(key ? { t: key } : { text: info.name }) });
    const tip = wordOf(method, info.name, '.tip');
    const words = tip ? el('span', { class: 'dq-tip', t: tip }) : language() === 'en' && info.words ? el('span', { class: 'dq-tip', text: info.words }) : null;
    this.node = info.kind === 'boolean' && !info.optional
      ? el('label', { class: 'dp-field', 'data-field': info.name }, el('span', { class: 'dq-check' }, this.input, name), words, this.wrong)
      : el('label', { class: 'dp-field', 'data-field': info.name }, name, words, this.input, this.wrong);
  }

  made() {
    const { kind, name, choices, optional, minimum, maximum } = this.info;
    const value = this.info.default;
    if (kind === 'boolean' && optional) {
      const words = { '': 'tr.chosen.by', true: 'tr.yes', false: 'tr.no' };
      const node = el('select', {}, ...['', 'true', 'false'].map((one) => el('option', { value: one, t: words[one] })));
      node.value = String(value ?? '');
      return node;
    }
    if (kind === 'boolean') {
      const box = el('input', { type: 'checkbox' });
      box.checked = Boolean(value);
      return box;
    }
    if (kind === 'choice') {
      const last = name.split('.').at(-1);
      const node = el('select', {}, ...choices.map((choice) => el('option', { value: String(choice), ...(known(`tr.o.${last}.${choice}`) ? { t: `tr.o.${last}.${choice}` } : { text: String(choice) }) })));
      node.value = String(value);
      return node;
    }
    if (name === 'sample_prompts') return el('textarea', { rows: '3', tPlaceholder: 'tr.prompts.empty' });
    const numeric = kind === 'integer' || kind === 'number';
    const node = el('input', numeric
      ? { type: 'number', step: kind === 'integer' ? '1' : 'any', min: minimum, max: maximum, inputmode: 'decimal' }
      : { type: 'text', spellcheck: 'false' });
    if (optional && numeric) { node.dataset.tPlaceholder = 'tr.chosen.by'; node.placeholder = t('tr.chosen.by'); }
    node.value = value === null || value === undefined ? '' : [value].flat().join(', ');
    return node;
  }

  /** What stands there, as the API takes it. */
  value() {
    const { kind, name, choices, optional } = this.info;
    if (kind === 'boolean' && !optional) return this.input.checked;
    const text = this.input.value.trim();
    if (kind === 'boolean') return text === '' ? null : text === 'true';
    if (kind === 'choice') return choices.find((choice) => String(choice) === text);
    if (kind === 'list') {
      const parts = text.split(name === 'sample_prompts' ? '\n' : /[,，]/).map((part) => part.trim()).filter(Boolean);
      return name === 'layer_structure' ? parts.map(Number) : parts;
    }
    if (kind === 'integer' || kind === 'number') return text === '' ? (optional ? null : this.info.default) : Number(text);
    return text === '' && optional ? null : text;
  }

  /** Whether it says something else than the API would take anyway. */
  get said() {
    return JSON.stringify(this.value()) !== JSON.stringify(this.info.default);
  }

  fill(value) {
    if (this.info.kind === 'boolean' && !this.info.optional) this.input.checked = Boolean(value);
    else if (this.info.kind === 'list') this.input.value = value.join(this.info.name === 'sample_prompts' ? '\n' : ', ');
    else this.input.value = value === null ? '' : String(value);
  }

  /** Say beside it what is wrong, or nothing. */
  complain(text) {
    this.wrong.textContent = text ?? '';
    this.wrong.hidden = !text;
    if (text) this.input.setAttribute('aria-invalid', 'true');
    else this.input.removeAttribute('aria-invalid');
  }
}

/** Put a value where a dotted name says: put({}, 'network.rank', 8) → {network: {rank: 8}}. */
export function put(body, name, value) {
  const parts = name.split('.');
  let place = body;
  for (const part of parts.slice(0, -1)) place = place[part] ??= {};
  place[parts.at(-1)] = value;
  return body;
}
