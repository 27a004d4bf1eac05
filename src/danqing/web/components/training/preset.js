// The first settings of a style project in the form of a run: from the data of the set's recipe, for the model's family.
import { el, language, t } from '../canvas/base.js';
import { figure, number } from './api.js';
import { recipes } from './recipes.js';

const BASES = { danqing: 'builtin', sd1: 'sd1', sdxl: 'sdxl' };
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** What a style project says for a model's family; that of SD 1.5 for one without its own, but not its size. Null for another method. */
export function firstSettings(recipe, method, family) {
  const base = BASES[family];
  const found = recipe.recommended.find((one) => one.base === (base ?? 'sd1'));
  if (!found || found.method !== method) return null;
  return base ? found : { ...found, size_px: null };
}

/** Names and values of fields. @param share of the steps */
function valuesOf(recipe, said, trigger, share) {
  const prompts = recipe.prompts.map((prompt) => prompt.replaceAll('{trigger}', trigger).replace(/^[\s,]+/, ''));
  return new Map([['steps', Math.max(1, Math.round(said.steps * share))], ['batch', said.batch], ['learning_rate', said.learning_rate], ['network.rank', said.rank],
    ['network.alpha', said.alpha], ['size_px', said.size_px], ['max_timestep', said.max_timestep], ['sample_prompts', prompts]]);
}

export class Preset {
  /** @param form TrainForm: {fields, method, summary, family, share, trigger} @param changed() other settings stand there */
  constructor(form, changed) {
    Object.assign(this, { form, changed, off: false, applied: new Map(), recipe: null, asked: 0 });
    this.words = el('span', {});
    this.button = el('button', { type: 'button', class: 'dq-link', 'data-act': 'preset', onclick: () => this.turn() });
    this.node = el('p', { class: 'dq-hint dt-preset', role: 'status', hidden: true }, this.words, ' ', this.button);
  }

  /** Look anew what the chosen set and model ask for. */
  async suit() {
    this.asked += 1;
    const { asked } = this;
    const key = this.form.summary?.recipe ?? null;
    const found = key && (await recipes().catch(() => [])).find((recipe) => recipe.key === key);
    if (asked !== this.asked) return;
    if (found !== this.recipe) this.off = false;
    this.recipe = found || null;
    this.apply();
  }

  /** Fields that a person has not written into take the project's settings, or their own back. */
  apply() {
    const { form, recipe } = this;
    this.said = recipe && firstSettings(recipe, form.method.method, form.family);
    const values = this.said && !this.off ? valuesOf(recipe, this.said, form.trigger?.value.trim() ?? '', form.share) : new Map();
    let other = false;
    for (const name of new Set([...this.applied.keys(), ...values.keys()])) {
      const field = form.fields.get(name);
      if (!field) continue;
      const untouched = same(field.value(), field.info.default) || (this.applied.has(name) && same(field.value(), this.applied.get(name)));
      const value = values.get(name) ?? field.info.default;
      if (!untouched || same(field.value(), value)) continue;
      field.fill(value);
      other = true;
    }
    this.applied = values;
    this.draw();
    if (other) this.changed();
  }

  draw() {
    const { said, recipe, off } = this;
    this.node.hidden = !said;
    if (!said) return;
    const name = recipe.names[language()] ?? recipe.name;
    const { steps = 0 } = Object.fromEntries(this.applied);
    this.words.textContent = off ? t('tr.preset.off') : t('tr.preset.on', { name, steps: number(steps), batch: number(said.batch), rank: said.rank, rate: figure(said.learning_rate) });
    this.button.textContent = off ? t('tr.preset.again', { name }) : t('tr.preset.back');
    this.node.dataset.preset = off ? 'off' : recipe.key;
  }

  turn() {
    this.off = !this.off;
    this.apply();
  }
}
