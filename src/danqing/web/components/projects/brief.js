// The form of a brief: words, colours, size, what must and must not be, pictures to heed.
import { ask, el, iconButton, t, toast } from '../canvas/base.js';
import { referenceOf } from './api.js';
import { signButton } from './icons.js';
import { pick } from './picker.js';
import { field } from './sheets.js';

const FIRST_COLOUR = '#c8372d';
const MOST = { colours: 16, references: 32, rules: 50, rule: 500 };
export const EMPTY = { words: '', references: [], size: null, palette: [], do: [], dont: [] };

const lines = (text) => text.split('\n').map((line) => line.trim().slice(0, MOST.rule)).filter(Boolean).slice(0, MOST.rules);

export class BriefForm {
  /** @param changed() hears of every change a person makes */
  constructor(changed = () => {}) {
    this.changed = changed;
    this.palette = [];
    this.references = [];
    this.words = el('textarea', { rows: '4', maxlength: '20000', tPlaceholder: 'p.brief.words.example', name: 'words' });
    this.do = el('textarea', { rows: '3', tPlaceholder: 'p.brief.lines', name: 'do' });
    this.dont = el('textarea', { rows: '3', tPlaceholder: 'p.brief.lines', name: 'dont' });
    const side = (name) => el('input', { type: 'number', min: '16', max: '4096', step: '8', inputmode: 'numeric', name, tAria: name === 'width' ? 'width' : 'height' });
    [this.width, this.height] = [side('width'), side('height')];
    this.colours = el('div', { class: 'dp-colours' });
    this.pictures = el('div', { class: 'dp-references' });
    this.file = el('input', { type: 'file', accept: 'image/png,image/jpeg,image/webp', hidden: true });
    this.file.addEventListener('change', () => this.upload());
    const group = (key, ...children) => el('div', { class: 'dp-field', role: 'group', tAria: key }, el('span', { class: 'dp-field-name', t: key }), ...children);
    this.node = el('div', { class: 'dp-brief' },
      field('p.brief.words', this.words),
      el('div', { class: 'dp-pair' }, field('p.brief.do', this.do), field('p.brief.dont', this.dont)),
      group('p.brief.palette', this.colours),
      group('p.brief.size', el('div', { class: 'dp-size' }, this.width, el('span', { 'aria-hidden': 'true', text: '×' }), this.height, el('span', { class: 'dq-tip', t: 'p.brief.size.tip' }))),
      group('p.brief.references', this.pictures, el('div', { class: 'dp-row' },
        el('button', { type: 'button', class: 'dq-link', t: 'p.brief.gallery', onclick: () => this.choose() }),
        el('button', { type: 'button', class: 'dq-link', t: 'p.brief.file', onclick: () => this.file.click() }), this.file)));
    for (const input of [this.words, this.do, this.dont, this.width, this.height]) input.addEventListener('input', () => this.changed());
  }

  fill(brief) {
    this.words.value = brief.words;
    this.do.value = brief.do.join('\n');
    this.dont.value = brief.dont.join('\n');
    this.width.value = brief.size?.width_px ?? '';
    this.height.value = brief.size?.height_px ?? '';
    this.palette = [...brief.palette];
    this.references = [...brief.references];
    this.drawColours();
    this.drawReferences();
  }

  /** The brief as the API takes it. */
  value() {
    const [width, height] = [this.width, this.height].map((input) => Number(input.value));
    return {
      words: this.words.value.trim(), references: this.references, palette: this.palette, do: lines(this.do.value), dont: lines(this.dont.value),
      size: width || height ? { width_px: width || height, height_px: height || width } : null,
    };
  }

  drawColours() {
    const swatch = (colour, index) => {
      const input = el('input', { type: 'color', 'aria-label': `${t('p.brief.colour')} ${colour}`, title: colour });
      input.value = colour;
      input.addEventListener('input', () => { this.palette[index] = input.value; this.changed(); });
      return el('span', { class: 'dp-colour' }, input, iconButton('close', 'p.brief.colour.remove', () => { this.palette.splice(index, 1); this.drawColours(); this.changed(); }));
    };
    const add = signButton('add', 'p.brief.colour.add', () => { this.palette.push(this.palette.at(-1) ?? FIRST_COLOUR); this.drawColours(); this.changed(); this.colours.querySelector('span:last-of-type input')?.focus(); }, { class: 'dq-icon dp-add-colour' });
    add.hidden = this.palette.length >= MOST.colours;
    this.colours.replaceChildren(...this.palette.map(swatch), add);
  }

  drawReferences() {
    this.pictures.replaceChildren(...this.references.map((ref, index) => el('span', { class: 'dp-reference' },
      el('img', { src: referenceOf(ref), alt: t('p.picture'), loading: 'lazy' }),
      iconButton('close', 'p.brief.reference.remove', () => { this.references.splice(index, 1); this.drawReferences(); this.changed(); }))));
  }

  addReference(ref) {
    if (this.references.includes(ref) || this.references.length >= MOST.references) return;
    this.references.push(ref);
    this.drawReferences();
    this.changed();
  }

  async choose() {
    const ids = await pick({ title: 'p.brief.references', ok: 'p.add' });
    for (const id of ids ?? []) this.addReference(`record:${id}`);
  }

  async upload() {
    const [file] = this.file.files;
    this.file.value = '';
    if (!file) return;
    try {
      this.addReference((await ask('uploads', { method: 'POST', body: file })).ref);
    } catch (error) {
      toast(error.text);
    }
  }
}
