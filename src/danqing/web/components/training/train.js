// Beginning a run: few fields, the rest folded, what it will cost and why it cannot begin told while one writes.
import { el, iconButton, relabel, t, toast } from '../canvas/base.js';
import { get, patch, post } from '../projects/api.js';
import { Estimates } from './estimate.js';
import { FieldInput, put } from './fields.js';
import { CARDS, methods, SHARES, stepsOf } from './methods.js';
import { lastModel, select } from './choice.js';
import { Preset } from './preset.js';
import { newSet } from './sets.js';
import { placeOf, setPath } from './api.js';

const QUALITIES = ['quick', 'normal', 'thorough'];
const HIDDEN = new Set(['name', 'dataset', 'pairs', 'model']);
const BUILT_IN = 'danqing-mini';
const NEW = '+';

export class TrainForm {
  constructor(root, card, more, go) {
    Object.assign(this, { root, go, card: CARDS[card] ? card : 'style', sets: [], models: [], wanted: more.get('set'), quality: 'normal', fields: new Map(), ended: false });
    this.shape = CARDS[this.card];
    this.begin().catch((error) => { toast(error.text ?? t('e.code.error')); if (!error.text) throw error; });
  }

  end() {
    this.ended = true;
    this.estimates?.end();
  }

  relabel() {
    if (this.node) relabel(this.node);
    this.estimates?.relabel();
    this.preset?.draw();
  }

  async begin() {
    const [found, sets, models] = await Promise.all([methods(), get('training/sets'), get('models')]);
    if (this.ended) return;
    this.method = found.get(this.shape.method);
    this.sets = sets.sets;
    this.models = models.models.map(({ name }) => name);
    this.families = new Map(models.models.map(({ name, family }) => [name, family]));
    this.build();
    this.changed();
  }

  build() {
    const lead = this.method.fields.filter(({ name }) => this.shape.lead.includes(name)).sort((a, b) => this.shape.lead.indexOf(a.name) - this.shape.lead.indexOf(b.name));
    const fixed = new Set(Object.keys(this.shape.fixed ?? {}));
    const rest = this.method.fields.filter(({ name }) => !this.shape.lead.includes(name) && !HIDDEN.has(name) && !fixed.has(name));
    const made = (info) => { const field = new FieldInput(this.method.method, info, () => this.changed()); this.fields.set(info.name, field); return field.node; };
    this.estimates = new Estimates((told) => this.judge(told));
    this.preset = new Preset(this, () => this.changed());
    this.start = el('button', { type: 'submit', class: 'dp-primary dt-start', t: 'tr.start', 'data-act': 'start' });
    this.fold = el('details', { class: 'dq-more dt-fold' }, el('summary', { t: 'tr.fold' }), el('div', { class: 'dt-all' }, ...rest.map(made)));
    const first = [this.nameField(), this.shape.kinds && this.setField(), this.shape.watch || this.shape.kinds === null || this.shape.setField ? null : this.triggerField(), ...lead.map(made), this.shape.watch ? null : this.modelField(), this.qualityField(), this.preset.node];
    const form = el('form', { class: 'dt-form', novalidate: true }, ...first.filter(Boolean), this.fold);
    form.addEventListener('submit', (event) => { event.preventDefault(); this.submit(); });
    form.id = 'dt-train';
    this.start.setAttribute('form', 'dt-train');
    this.node = el('section', { class: 'dt-train' },
      el('div', { class: 'dp-bar' }, iconButton('back', 'tr.tab.train', () => this.go('train', null, this.wanted ? { set: this.wanted } : {})), el('h2', { t: `tr.m.${this.card}` })),
      el('p', { class: 'dt-lead', t: `tr.m.${this.card}.text` }),
      el('div', { class: 'dt-columns' }, form, el('aside', { class: 'dt-side dt-cost' }, el('h2', { t: 'tr.cost' }), this.estimates.node, this.start)));
    this.root.replaceChildren(this.node);
    this.suggest();
    this.preset.suit();
  }

  /** A field of the page's own in the shape of FieldInput. */
  own(name, key, input, tip = null) {
    const wrong = el('span', { class: 'dq-wrong', role: 'alert', hidden: true });
    const node = el('label', { class: 'dp-field', 'data-field': name }, el('span', { class: 'dp-field-name', t: key }), tip ? el('span', { class: 'dq-tip', t: tip }) : null, input, wrong);
    input.name = name;
    const complain = (text) => { wrong.textContent = text ?? ''; wrong.hidden = !text; if (text) input.setAttribute('aria-invalid', 'true'); else input.removeAttribute('aria-invalid'); };
    this.fields.set(name, { node, input, complain, said: false });
    return node;
  }

  nameField() {
    this.name = el('input', { type: 'text', maxlength: '80', spellcheck: 'false', autocomplete: 'off' });
    this.name.addEventListener('input', () => { this.named = true; this.changed(); });
    return this.own('name', this.method.method === 'embedding' ? 'tr.f.word' : 'tr.f.name', this.name, this.method.method === 'embedding' ? 'tr.f.word.tip' : 'tr.f.name.tip');
  }

  setField() {
    const rank = ({ kind }) => (this.shape.kinds.includes(kind) ? this.shape.kinds.indexOf(kind) : 99);
    const some = this.shape.setField ? this.sets.filter(({ kind }) => kind === 'pairs') : [...this.sets].sort((a, b) => rank(a) - rank(b));
    this.set = select('dataset', [...(this.shape.optional ? [['', { t: 'tr.set.builtin' }]] : []), ...some.map(({ name, pictures }) => [name, { text: t('tr.set.option', { name, count: pictures }) }]), [NEW, { t: 'tr.set.new' }]], '', (name) => this.chosen(name));
    const first = some.some(({ name }) => name === this.wanted) ? this.wanted : this.shape.optional ? '' : some[0]?.name;
    this.set.value = first ?? NEW;
    if (!first && !this.shape.optional) { this.set.value = ''; this.set.selectedIndex = -1; }
    return this.own(this.shape.setField ?? 'dataset', 'tr.f.dataset', this.set, some.length || this.shape.optional ? null : this.shape.setField ? 'tr.f.pairs.none' : 'tr.f.dataset.none');
  }

  async chosen(name) {
    if (name === NEW) {
      this.set.value = '';
      const made = await newSet();
      if (made) this.go('set', made);
      return;
    }
    this.wanted = name;
    this.suggest();
    this.preset.suit();
    this.changed();
  }

  get summary() {
    return this.sets.find(({ name }) => name === this.set?.value) ?? null;
  }

  get family() {
    return this.families.get(this.model?.value) ?? null;
  }

  /** Of the steps that a method or a project would take. */
  get share() {
    return SHARES[this.quality] ?? 1;
  }

  /** What follows from the chosen set: the run's name and the trigger. */
  suggest() {
    if (!this.named) this.name.value = this.summary?.name ?? (this.shape.watch ? t(`tr.m.${this.card}`) : '');
    if (this.trigger) this.trigger.value = this.summary?.trigger ?? '';
  }

  triggerField() {
    if (this.method.method === 'embedding' || ['control', 'fewer'].includes(this.card)) return null;
    this.trigger = el('input', { type: 'text', maxlength: '80', spellcheck: 'false', tPlaceholder: 'tr.set.trigger.empty' });
    this.trigger.addEventListener('input', () => this.preset.apply()); // sample prompts say it too
    return this.own('trigger', 'tr.set.trigger', this.trigger, 'tr.set.trigger.tip');
  }

  modelField() {
    this.model = select('model', this.models.map((name) => [name, { text: name }]), this.models.includes(BUILT_IN) ? BUILT_IN : this.models[0], (name) => { lastModel.name = name; this.preset.apply(); this.changed(); });
    return this.own('model', 'tr.f.model', this.model);
  }

  qualityField() {
    const buttons = QUALITIES.map((each) => el('button', { type: 'button', t: `tr.quality.${each}`, 'data-quality': each, 'aria-pressed': String(each === this.quality), onclick: () => this.pick(each) }));
    this.steps = el('span', { class: 'dq-tip', t: 'tr.quality.tip' });
    return el('div', { class: 'dp-field' }, el('span', { class: 'dp-field-name', t: 'tr.quality' }), this.steps, this.sides = el('div', { class: 'dq-sides', role: 'group', tAria: 'tr.quality' }, ...buttons));
  }

  pick(quality) {
    this.quality = quality;
    for (const button of this.sides.children) button.setAttribute('aria-pressed', String(button.dataset.quality === quality));
    this.fields.get('steps')?.fill(null);
    this.preset.apply();
    this.changed();
  }

  /** The Request, or null where something must still be said. */
  request() {
    const body = { method: this.method.method, name: this.name.value.trim(), ...this.shape.fixed };
    if (this.set?.value) body[this.shape.setField ?? 'dataset'] = this.set.value;
    if (this.model) body.model = this.model.value;
    for (const [name, field] of this.fields) if (field.said) put(body, name, field.value());
    const steps = stepsOf(this.card, this.quality, !this.model || this.model.value === BUILT_IN);
    if (steps !== null && body.steps === undefined) body.steps = steps;
    return body;
  }

  /** What must still be said, by field. */
  missing() {
    if (!this.name.value.trim()) return 'name';
    if (this.set && !this.shape.optional && !this.set.value) return this.shape.setField ?? 'dataset';
    return this.method.fields.find(({ name, required }) => required && this.shape.lead.includes(name) && !this.fields.get(name).input.value.trim())?.name ?? null;
  }

  changed() {
    for (const field of this.fields.values()) field.complain(null);
    this.start.disabled = false;
    const missing = this.missing();
    if (missing) this.estimates.wait(t('tr.cost.missing', { field: this.fields.get(missing).node.querySelector('span').textContent }));
    else this.estimates.want(this.request());
  }

  /** What the estimate says: a reason stands beside the field that it is about. */
  judge({ reasons = [], field = null, text = null }) {
    this.start.disabled = reasons.length > 0 || text !== null;
    if (text) this.complain(field, text);
    for (const reason of reasons) this.complain(reason.field, reason.text);
  }

  complain(name, text) {
    const found = this.fields.get(name);
    if (!found) return false;
    if (this.fold.contains(found.node)) this.fold.open = true;
    found.complain(text);
    return true;
  }

  async submit() {
    const missing = this.missing();
    if (missing) {
      this.complain(missing, t('tr.missing'));
      this.fields.get(missing).input.focus();
      return;
    }
    this.start.disabled = true;
    this.estimates.starting();
    try {
      if (this.trigger && this.summary && this.trigger.value.trim() !== this.summary.trigger) await patch(setPath(this.set.value), { trigger: this.trigger.value.trim() });
      const run = await post('training/runs', this.request());
      document.dispatchEvent(new Event('dt:runs'));
      location.href = placeOf('run', run.id);
    } catch (error) {
      this.start.disabled = false;
      if (!this.complain(error.field, error.text)) this.estimates.refuse(error.text);
    }
  }
}
