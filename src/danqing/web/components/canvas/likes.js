// "Look like this": up to five pictures that say what to paint, each with its weight.
import { el, iconButton, t, toast } from './base.js';
import { clearErrors, unfold } from './fields.js';
import { choice, slider } from './parts.js';
import { choosePicture } from './slot.js';

const MAX = 5;

export class Likes {
  /** @param app {addressOf, set(values), withCanvasPicture} */
  constructor(app) {
    this.app = app;
    this.prompts = [];
    this.mix = 'tokens';
    this.offered = null; // unknown until the studio has said what there is
    this.base = '';
    this.list = el('div', { class: 'dq-cards' });
    this.missing = el('p', { class: 'dq-card dq-hint', hidden: true });
    this.mixPlace = el('div', {});
    this.row = el('div', { class: 'dq-row' },
      el('button', { type: 'button', class: 'dq-act dq-add', t: 'l.add', onclick: () => choosePicture((ref) => this.add(ref)) }),
      el('button', { type: 'button', class: 'dq-act', t: 'd.canvas', onclick: () => this.app.withCanvasPicture((ref) => this.add(ref)) }));
    this.node = el('section', { class: 'dq-extra', id: 'f-image_prompts', tAria: 'l.title' },
      el('h3', { t: 'l.title' }), el('p', { class: 'dq-tip', t: 'l.tip' }), this.list, this.mixPlace, this.missing, this.row);
  }

  get available() {
    return this.offered === true;
  }

  setOffer(likes, base) {
    this.offered = likes;
    this.base = base;
    this.relabel();
  }

  relabel() {
    const none = this.offered === false;
    this.missing.hidden = !none;
    this.missing.textContent = t('l.missing', { model: this.base });
    this.row.hidden = this.offered !== true || this.prompts.length >= MAX;
  }

  keep() {
    this.app.set({ likes: { prompts: this.prompts.map((prompt) => ({ ...prompt })), mix: this.mix } });
  }

  render() {
    clearErrors();
    this.list.replaceChildren(...this.prompts.map((prompt, index) => el('div', { class: 'dq-card dq-like', id: `f-image_prompts.${index}` },
      el('img', { class: 'dq-small', src: this.app.addressOf(prompt.image), alt: `${t('l.title')} ${index + 1}` }),
      slider('l.weight', { id: `f-image_prompts.${index}.weight`, high: 2, value: prompt.weight, set: (weight) => { prompt.weight = weight; this.keep(); }, tip: index === 0 }),
      iconButton('close', 'remove', () => this.remove(prompt)))));
    this.mixPlace.replaceChildren(...(this.prompts.length > 1
      ? [choice('l.mix', { id: 'f-image_mix', options: ['tokens', 'average'], value: this.mix, set: (mix) => { this.mix = mix; this.keep(); } })] : []));
    this.relabel();
  }

  add(image) {
    if (this.prompts.length >= MAX) {
      toast(t('l.full'));
      return;
    }
    this.prompts.push({ image, weight: 1, start: 0, end: 1 });
    this.keep();
    this.render();
  }

  remove(prompt) {
    this.prompts.splice(this.prompts.indexOf(prompt), 1);
    this.keep();
    this.render();
    this.row.firstChild.focus();
  }

  /** Put those of a Request here. */
  setAll({ prompts, mix }) {
    this.prompts = prompts.map((prompt) => ({ ...prompt }));
    this.mix = mix;
    this.render();
  }

  /** A picture dropped for this. */
  async take(image) {
    await unfold('composition', 'image_prompts');
    this.add(image);
  }
}
