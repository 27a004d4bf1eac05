// "Watch it learn": what a run painted at each of its steps, to go through with a slider or to play.
import { el, iconButton, t } from '../canvas/base.js';
import { sampleOf } from './api.js';

const KINDS = ['grid', 'denoising', 'noising'];
const APART = new Set(['compare', 'loss']); // the result shows the one, our own chart the other
const PLAY_MS = 450;

export class Samples {
  constructor(run) {
    this.run = run;
    this.steps = 0;
    this.method = '';
    this.kinds = new Map(); // what → [{step, files}], by step
    this.what = null;
    this.at = -1; // -1: the newest
    this.image = el('div', { class: 'dt-sample' });
    this.range = el('input', { type: 'range', min: '0', step: '1', tAria: 'tr.sample.step' });
    this.range.addEventListener('input', () => { const place = Number(this.range.value); this.rest(); this.go(place); });
    this.words = el('output', { class: 'dt-sample-step' });
    this.play = el('button', { type: 'button', class: 'dq-act', 'data-act': 'play', onclick: () => (this.timer ? this.rest() : this.runThrough()) });
    this.tabs = el('div', { class: 'dq-sides', role: 'group', tAria: 'tr.sample.kinds', hidden: true });
    this.tip = el('p', { class: 'dq-tip' });
    this.slider = el('div', { class: 'dt-slider' }, iconButton('back', 'tr.sample.before', () => this.step(-1)), this.range, iconButton('back', 'tr.sample.after', () => this.step(1), { class: 'dq-icon dt-turned' }), this.play);
    this.empty = el('p', { class: 'dp-none dq-tip', t: 'tr.sample.none' });
    this.node = el('section', { class: 'dt-samples' }, el('div', { class: 'dp-row' }, el('h2', { t: 'tr.sample.title' }), this.tabs), this.empty, this.image, this.words, this.slider, this.tip);
    this.draw();
  }

  end() {
    clearInterval(this.timer);
  }

  add({ step, file, what }) {
    if (APART.has(what)) return;
    if (!this.kinds.has(what)) this.kinds.set(what, []);
    const list = this.kinds.get(what);
    const there = list.find((one) => one.step === step);
    if (there) { if (!there.files.includes(file)) there.files.push(file); } else list.push({ step, files: [file] });
    list.sort((a, b) => a.step - b.step);
    this.what ??= what;
    this.want();
  }

  /** Many samples may come at once: they are drawn once. */
  want() {
    if (this.pending) return;
    this.pending = true;
    setTimeout(() => { this.pending = false; this.draw(); }, 60);
  }

  get list() {
    return this.kinds.get(this.what) ?? [];
  }

  get place() {
    return this.at < 0 ? this.list.length - 1 : Math.min(this.at, this.list.length - 1);
  }

  go(place) {
    this.at = place >= this.list.length - 1 ? -1 : Math.max(0, place);
    this.draw();
  }

  step(by) {
    this.rest();
    this.go(this.place + by);
  }

  runThrough() {
    if (this.place >= this.list.length - 1) this.at = 0;
    this.timer = setInterval(() => {
      if (this.place >= this.list.length - 1) return this.rest();
      return this.go(this.place + 1);
    }, PLAY_MS);
    this.draw();
  }

  rest() {
    clearInterval(this.timer);
    this.timer = 0;
    this.draw();
  }

  draw() {
    const { list, place } = this;
    const one = list[place];
    const several = list.length > 1;
    this.empty.hidden = Boolean(one);
    for (const part of [this.image, this.words, this.tip]) part.hidden = !one;
    this.slider.hidden = !several;
    if (!one) return;
    this.range.max = String(list.length - 1);
    this.range.value = String(place);
    this.words.textContent = this.steps ? t('tr.step.of', { step: one.step, steps: this.steps }) : t('tr.step.at', { step: one.step });
    this.range.setAttribute('aria-valuetext', this.words.textContent);
    this.play.textContent = t(this.timer ? 'tr.sample.rest' : 'tr.sample.play');
    const key = one.files.join(' ');
    if (this.image.dataset.files !== key) {
      this.image.dataset.files = key;
      this.image.replaceChildren(...one.files.map((file) => el('a', { href: sampleOf(this.run, file), target: '_blank', rel: 'noopener' }, el('img', { src: sampleOf(this.run, file), alt: t('tr.sample.alt', { step: one.step }), decoding: 'sync' }))));
    }
    this.drawTabs();
    this.tip.textContent = t(`tr.what.${KINDS.includes(this.what) ? this.what : 'grid'}${this.what === 'grid' && ['ddpm', 'dcgan', 'wgan'].includes(this.method) ? '.noise' : ''}`);
  }

  drawTabs() {
    const kinds = [...this.kinds.keys()].sort((a, b) => KINDS.indexOf(a) - KINDS.indexOf(b));
    this.tabs.hidden = kinds.length < 2;
    if (this.tabs.dataset.kinds !== `${kinds}${document.documentElement.lang}`) {
      this.tabs.dataset.kinds = `${kinds}${document.documentElement.lang}`;
      this.tabs.replaceChildren(...kinds.map((what) => el('button', { type: 'button', 'data-what': what, ...(KINDS.includes(what) ? { t: `tr.kind.of.${what}` } : { text: what }), onclick: () => { this.rest(); this.what = what; this.at = -1; this.draw(); } })));
    }
    for (const button of this.tabs.children) button.setAttribute('aria-pressed', String(button.dataset.what === this.what));
  }
}
