// Into which sizes the pictures of a set fall: how many, how much of them is cut away, and which one is alone in its size.
import { el, t, url } from '../canvas/base.js';
import { get } from '../projects/api.js';
import { field, plural, sheet } from '../projects/sheets.js';
import { later, number, setPath } from './api.js';
import { lastModel, select } from './choice.js';
import { cropSheet } from './crop.js';

const USUAL = { ':sd1': 512, ':sdxl': 1024 }; // of models that are not here; a colon, so that no model is called so
const USUAL_STEP_PX = 64;
const BOUNDS = [32, 2048];
const WAIT_MS = 250;
const FACE_PX = 46;

export class Buckets {
  /** @param set its name @param kind what it teaches @param models of the catalogue, the built-in one first */
  constructor(set, kind, models) {
    Object.assign(this, { set, kind, asked: 0, changed: false });
    this.sizes = new Map([...models.map(({ name, defaults }) => [name, defaults.size_px]), ...Object.entries(USUAL)]);
    const first = this.sizes.has(lastModel.name) ? lastModel.name : [...this.sizes.keys()][0];
    const usual = Object.keys(USUAL).map((key) => [key, { t: `tr.buckets.of.${key.slice(1)}` }]);
    this.model = select('model', [...models.map(({ name }) => [name, { text: name }]), ...usual], first, () => this.suit());
    this.size = el('input', { type: 'number', name: 'size_px', min: BOUNDS[0], max: BOUNDS[1], step: '32', inputmode: 'numeric' });
    this.size.addEventListener('input', later(() => this.load(), WAIT_MS));
    this.step = el('p', { class: 'dq-tip dt-bucket-step' });
    this.sum = el('p', { role: 'status' });
    this.rows = el('div', { class: 'dt-buckets', role: 'list' });
    this.tip = el('p', { class: 'dq-hint', t: 'tr.buckets.alone.tip', hidden: true });
    this.node = el('div', { class: 'dt-bucket-view' }, el('p', { class: 'dq-tip', t: 'tr.buckets.text' }),
      el('div', { class: 'dp-row dt-bucket-size' }, field('tr.f.model', this.model), field('tr.buckets.size', this.size), this.step), this.sum, this.rows, this.tip);
  }

  /** The chosen model's own size. */
  suit() {
    this.size.value = String(this.sizes.get(this.model.value));
    return this.load();
  }

  async load() {
    const size = Number(this.size.value);
    const model = this.model.value;
    this.asked += 1;
    const { asked } = this;
    if (!Number.isInteger(size) || size < BOUNDS[0] || size > BOUNDS[1]) {
      this.tell(t('tr.buckets.wrong', { least: BOUNDS[0], most: BOUNDS[1] }));
      return;
    }
    const whose = model in USUAL ? { step_px: USUAL_STEP_PX } : { model };
    try {
      const { buckets, step_px: step } = await get(setPath(this.set, `/buckets?${new URLSearchParams({ size_px: size, ...whose })}`));
      if (asked !== this.asked) return;
      this.step.textContent = t('tr.buckets.step', { step });
      this.draw(buckets);
    } catch (error) {
      if (asked === this.asked) this.tell(error.text);
    }
  }

  tell(text) {
    this.sum.textContent = text;
    this.step.textContent = '';
    this.rows.replaceChildren();
    this.tip.hidden = true;
  }

  draw(buckets) {
    const all = buckets.reduce((sum, { pictures }) => sum + pictures, 0);
    if (!all) {
      this.tell(t('tr.set.reads.none'));
      return;
    }
    const lost = buckets.reduce((sum, row) => sum + row.lost * row.pictures, 0) / all;
    const words = t('tr.buckets.sum', { pictures: plural('tr.pictures', all), sizes: plural('tr.buckets.sizes', buckets.length), percent: percent(lost) });
    this.sum.textContent = words;
    const longest = Math.max(...buckets.flatMap(({ width_px: width, height_px: height }) => [width, height]));
    const most = Math.max(...buckets.map(({ pictures }) => pictures));
    this.rows.replaceChildren(...buckets.map((row) => this.row(row, longest, most)));
    this.tip.hidden = all === 1 || !buckets.some(({ alone }) => alone);
  }

  row({ width_px: width, height_px: height, pictures, shown, lost, worst, enlarged, alone }, longest, most) {
    const shape = el('span', { class: 'dt-bucket-shape', 'aria-hidden': 'true' });
    Object.assign(shape.style, { width: `${(width / longest) * FACE_PX}px`, height: `${(height / longest) * FACE_PX}px` });
    const bar = el('span', { class: 'dt-bucket-bar', 'aria-hidden': 'true' });
    bar.style.width = `${(pictures / most) * 100}%`;
    const facts = [t('tr.buckets.lost', { percent: percent(lost) }), worst > lost + 0.005 ? t('tr.buckets.worst', { percent: percent(worst) }) : null,
      shown !== pictures ? t('tr.buckets.shown', { count: number(shown) }) : null, enlarged ? t('tr.buckets.enlarged', { count: number(enlarged) }) : null];
    return el('div', { class: `dt-bucket${alone ? ' alone' : ''}`, role: 'listitem', 'data-bucket': `${width}x${height}` },
      el('span', { class: 'dt-bucket-face' }, shape),
      el('span', { class: 'dt-bucket-words' }, el('span', { class: 'dt-bucket-head' }, el('strong', { text: `${width} × ${height}` }), el('span', { text: plural('tr.pictures', pictures) })),
        el('span', { class: 'dt-bucket-track' }, bar), el('span', { class: 'dq-tip', text: facts.filter(Boolean).join(' · ') })),
      alone ? this.lonely(alone) : null);
  }

  /** The one picture of a size, with the way to its crop. */
  lonely(file) {
    const address = url(`api/v1/${setPath(this.set, `/pictures/${encodeURIComponent(file)}/thumbnail`)}`);
    return el('button', { type: 'button', class: 'dt-lonely', 'data-alone': file, title: file, 'aria-label': t('tr.buckets.alone.crop', { name: file }), onclick: () => this.crop(file) },
      el('img', { src: address, alt: '' }), el('span', { t: 'tr.buckets.alone' }));
  }

  async crop(file) {
    try {
      const row = await get(setPath(this.set, `/pictures/${encodeURIComponent(file)}`));
      if (!(await cropSheet(this.set, row, this.kind))) return;
      this.changed = true;
      await this.load();
    } catch (error) {
      this.tell(error.text ?? t('e.code.error'));
    }
  }
}

const percent = (share) => number(share * 100, share < 0.0995 ? 1 : 0);

/** Show the sizes of a set. @returns whether a picture was cropped meanwhile */
export async function bucketSheet(set, kind) {
  const models = await get('models').then((found) => found.models, () => []); // without them the usual sizes are left
  const view = new Buckets(set, kind, models);
  view.suit();
  await sheet({ title: 'tr.buckets', wide: true }, view.node);
  return view.changed;
}
