// What lies beside a picture of a set: its mask, and its control map (or the picture before it). Seen, put there, painted, taken away.
import { el, t } from '../canvas/base.js';
import { remove } from '../projects/api.js';
import { addressOf, putFile, setPath } from './api.js';
import { isPicture, takesDrops } from './files.js';
import { MaskPad, maskFrame } from './maskpad.js';

const OTHER_SHAPE = 0.02; // a shape that differs by more is pointed out

class Side {
  /** @param sides whose @param part 'mask' or 'conditioning' @param words which of the words name it */
  constructor(sides, part, words) {
    Object.assign(this, { sides, part, words });
    this.face = el('span', { class: 'dt-side-face' });
    this.note = el('span', { class: 'dq-tip', role: 'status' });
    this.input = el('input', { type: 'file', class: 'dq-offscreen', tabindex: '-1', 'aria-hidden': 'true', accept: 'image/*', 'data-purpose': part });
    this.input.addEventListener('change', () => { const [file] = this.input.files; this.input.value = ''; if (file) this.send(file); });
    this.acts = el('span', { class: 'dp-row' });
    this.node = el('section', { class: 'dt-side-card', 'data-side': part, tAria: `tr.side.${words}` }, this.face,
      el('div', { class: 'dt-side-words' }, el('strong', { t: `tr.side.${words}` }), el('span', { class: 'dq-tip', t: `tr.side.${words}.tip` }), this.acts, this.note), this.input);
    takesDrops(this.node, (files) => { const file = files.find(isPicture); if (file) this.send(file); else this.say(t('tr.files.none')); });
    this.draw();
  }

  get path() {
    return setPath(this.sides.set, `/pictures/${encodeURIComponent(this.sides.row.picture.file)}/${this.part}`);
  }

  get address() {
    const found = this.sides.row[this.part];
    return found && addressOf(found);
  }

  say(text) {
    this.note.textContent = text;
  }

  draw() {
    const { address } = this;
    const act = (key, name, run) => el('button', { type: 'button', class: 'dq-act', t: key, 'data-act': name, onclick: run });
    const image = address && el('img', { src: address, alt: t(`tr.side.${this.words}`) });
    if (image) image.addEventListener('load', () => this.compare(image));
    this.face.replaceChildren(image ? el('a', { href: address, target: '_blank', rel: 'noopener', tTitle: 'tr.side.open' }, image) : el('span', { class: 'dq-tip', t: 'tr.side.none' }));
    this.node.classList.toggle('empty', !address);
    this.acts.replaceChildren(...[
      this.part === 'mask' ? act(address ? 'tr.side.repaint' : 'tr.side.paint', 'paint', () => this.paint()) : null,
      act(address ? 'tr.side.other' : 'tr.side.choose', 'choose', () => this.input.click()),
      address ? act('tr.side.remove', 'remove', () => this.change(() => remove(this.path), 'tr.side.removed')) : null,
    ].filter(Boolean));
  }

  compare({ naturalWidth: width, naturalHeight: height }) {
    const { width_px: wide, height_px: high } = this.sides.row.picture;
    if (Math.abs((width * high) / (height * wide) - 1) > OTHER_SHAPE) this.say(t('tr.side.shape', { width, height }));
  }

  send(file) {
    return this.change(() => putFile(this.path, file), 'tr.side.kept');
  }

  /** Ask the studio for a change and show what came of it; what is wrong is said here, or thrown where somebody else says it. */
  async change(ask, words, quiet = true) {
    try {
      this.say(t('tr.side.sending'));
      const row = await ask();
      this.say(t(words));
      this.sides.take(row);
      this.acts.firstChild?.focus();
    } catch (error) {
      this.say(error.text ?? t('e.code.error'));
      if (!quiet) throw error;
    }
  }

  paint() {
    const { picture, image } = this.sides.row;
    const pad = new MaskPad({ frame: maskFrame(picture), under: addressOf(image), load: this.address, done: (blob) => this.change(() => putFile(this.path, blob, 'mask.png'), 'tr.side.kept', false) });
    return pad.open();
  }
}

export class Sides {
  /** @param set its name @param row a picture as the API tells it @param kind of the set @param changed(row) */
  constructor(set, row, kind, changed) {
    Object.assign(this, { set, row, changed });
    this.all = [new Side(this, 'mask', 'mask'), new Side(this, 'conditioning', kind === 'pairs' ? 'before' : 'map')];
    this.node = el('div', { class: 'dt-sides' }, ...this.all.map(({ node }) => node));
  }

  take(row) {
    this.row = row;
    for (const side of this.all) side.draw();
    this.changed(row);
  }
}
