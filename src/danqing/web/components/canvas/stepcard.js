// One step of a retouch: its few important fields, the others folded. What has no field here stays in the step as it is.
import { el, iconButton, t } from './base.js';
import { choice, slider } from './parts.js';

const SHARE = { kind: 'slider', low: 0, high: 1 };
const whole = (low, high) => ({ kind: 'slider', low, high, step: 1, digits: 0 });
const number = (low, high, step = 1) => ({ kind: 'number', low, high, step });
const PAINTED = { prompt: { kind: 'area' }, negative_prompt: { kind: 'area' }, steps: number(1, 500), guidance_scale: number(0, 100, 0.5) };
const AREA = { kind: 'slider', low: 0, high: 1, step: 0.005, digits: 3 };
const DETAIL = {
  classes: { kind: 'list' }, confidence: SHARE, min_area: AREA, max_area: AREA, max_count: number(1, 64),
  keep: { kind: 'choice', options: ['area', 'confidence'] }, sort: { kind: 'choice', options: ['sureness', 'left_to_right', 'centre_to_edge', 'largest'] },
  outline: { kind: 'check' }, offset_x_px: whole(-200, 200), offset_y_px: whole(-200, 200), dilate_px: whole(-64, 64),
  merge: { kind: 'choice', options: ['none', 'merge', 'merge_invert'] }, blur_px: whole(0, 64), padding_px: whole(0, 256),
  negative_prompt: PAINTED.negative_prompt, steps: PAINTED.steps, guidance_scale: PAINTED.guidance_scale,
};
const TILED = { mode: { kind: 'choice', options: ['windows', 'tiles'] }, strength: SHARE, tile_px: number(64, 2048, 8), ...PAINTED };

/** Kind → fields that always show, and those that are folded. */
const FIELDS = {
  detail: [{ detect: { kind: 'text', known: () => ['face', 'eyes', 'hand', 'person', 'subject'] }, prompt: { kind: 'area' }, strength: SHARE }, DETAIL],
  restore_faces: [{ visibility: SHARE }, { fidelity: SHARE, confidence: SHARE, max_count: number(1, 64), model: { kind: 'text', optional: true } }],
  upscale: [{ scale: { kind: 'slider', low: 1, high: 4, step: 0.25 }, upscaler: { kind: 'text', optional: true, known: (app) => ['Lanczos', 'Bicubic', 'Nearest', 'Latent', ...app.upscalers()] } }, {}],
  cutout: [{ method: { kind: 'choice', options: ['auto', 'plain', 'u2netp', 'grabcut'] }, trim: { kind: 'check' } }, { grow_px: whole(-64, 64), background: { kind: 'text', optional: true } }],
};

/** What a new step holds; as `spec.retouch_steps` has it. */
export const FRESH = {
  detail: {
    detect: 'face', prompt: null, strength: 0.4, classes: [], confidence: 0.3, min_area: 0, max_area: 1, max_count: null, keep: 'area', sort: 'sureness', outline: true,
    offset_x_px: 0, offset_y_px: 0, dilate_px: 4, merge: 'none', blur_px: 4, padding_px: 32, negative_prompt: null, steps: null, guidance_scale: null,
  },
  restore_faces: { visibility: 1, fidelity: 0.5, confidence: 0.5, max_count: null, model: null },
  upscale: { scale: 2, upscaler: null, tiled: null },
  cutout: { method: 'auto', trim: false, grow_px: 0, background: null },
};
const FRESH_TILED = { mode: 'windows', strength: 0.3, tile_px: null, prompt: null, negative_prompt: null, steps: null, guidance_scale: null };

export class StepCard {
  /** @param home Steps @param step a RetouchStep as JSON */
  constructor(home, step) {
    this.home = home;
    this.step = { ...FRESH[step.kind], ...step };
    this.open = false;
  }

  change(values) {
    Object.assign(this.step, values);
    this.home.tell();
  }

  build(index, count) {
    const { home, step } = this;
    const { kind } = step;
    this.prefix = `f-${home.name}.${index}`;
    const [shown, folded] = FIELDS[kind];
    this.title = el('strong', {});
    this.movers = [iconButton('up', 't.up', () => home.move(this, -1)), iconButton('down', 't.down', () => home.move(this, 1))];
    const own = (name, info) => this.field(`t.${kind}.${name}`, `${this.prefix}.${name}`, info, step[name], (value) => this.change({ [name]: value }));
    const fields = Object.entries(shown).map(([name, info]) => own(name, info));
    const more = Object.entries(folded).map(([name, info]) => own(name, info));
    if (kind === 'upscale') fields.push(this.tiles());
    this.more = more.length ? el('details', { class: 'dq-more', open: this.open }, el('summary', { t: 'c.more' }), ...more) : null;
    this.more?.addEventListener('toggle', () => { this.open = this.more.open; });
    this.node = el('div', { class: 'dq-card dq-step-card', id: this.prefix, role: 'group' },
      el('div', { class: 'dq-card-head' }, this.title, el('span', { class: 'dq-spring' }), ...this.movers, iconButton('close', 't.delete', () => home.remove(this))),
      el('p', { class: 'dq-tip', t: `t.${kind}.tip` }), ...fields, this.more);
    this.relabel(index, count);
    return this.node;
  }

  relabel(index, count) {
    const name = `${index + 1} · ${t(`t.${this.step.kind}`)}`;
    this.title.textContent = name;
    this.node.setAttribute('aria-label', name);
    const [up, down] = this.movers;
    up.disabled = index === 0;
    down.disabled = index === count - 1;
  }

  /** Painting an enlarged picture again: a tick that opens fields of its own. */
  tiles() {
    const { step } = this;
    const id = `${this.prefix}.tiled`;
    const body = el('div', { class: 'dq-step-tiles' });
    const draw = () => {
      const change = (name) => (value) => this.change({ tiled: { ...step.tiled, [name]: value } });
      body.replaceChildren(...(step.tiled ? Object.entries(TILED).map(([name, info]) => this.field(`t.tiled.${name}`, `${id}.${name}`, info, step.tiled[name], change(name))) : []));
    };
    const tick = this.field('t.upscale.tiled', null, { kind: 'check' }, step.tiled !== null, (on) => { this.change({ tiled: on ? { ...FRESH_TILED } : null }); draw(); });
    draw();
    return el('div', { class: 'dq-field', id }, tick, body);
  }

  /** One field by its kind; what is empty and may be is null. */
  field(key, id, info, value, set) {
    const { kind } = info;
    if (kind === 'slider') return slider(key, { ...info, high: Math.max(info.high, value), low: Math.min(info.low, value), id, value, set });
    if (kind === 'choice') return choice(key, { id, options: info.options, value, set });
    const tip = el('span', { class: 'dq-tip', t: `${key}.tip` });
    if (kind === 'check') {
      const box = el('input', { type: 'checkbox' });
      box.checked = value;
      box.addEventListener('change', () => set(box.checked));
      return el('label', { class: 'dq-field', id }, el('span', { class: 'dq-check' }, box, el('span', { t: key })), tip);
    }
    const area = kind === 'area';
    const many = kind === 'list'; // names with commas between them
    const list = info.known ? el('datalist', { id: `known-${id}` }, ...info.known(this.home.app).map((name) => el('option', { value: name }))) : null;
    const input = el(area ? 'textarea' : 'input', { tAria: key, tPlaceholder: `${key}.empty`, ...(area ? { rows: '2', maxlength: '20000' } : { type: many ? 'text' : kind, ...(kind === 'number' ? { min: info.low, max: info.high, step: info.step } : { maxlength: many ? '4000' : '256', spellcheck: 'false', list: list?.id }) }) });
    input.value = many ? value.join(', ') : value ?? '';
    const names = () => input.value.split(/[,，、]/).map((name) => name.trim()).filter(Boolean);
    const read = () => (many ? names() : kind === 'number' ? Number(input.value) : input.value);
    input.addEventListener('input', () => set(input.value === '' && (area || info.optional || kind === 'number') ? null : read()));
    return el('label', { class: 'dq-field', id }, el('span', { t: key }), tip, input, list);
  }
}
