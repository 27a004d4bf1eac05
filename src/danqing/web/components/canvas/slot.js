// A place for one picture: empty it asks for one, filled it shows it and can be emptied.
import { el, icon, iconButton, t, toast } from './base.js';
import { upload } from './drop.js';

/** Let a person choose a file; `take` gets the ref of the uploaded picture. */
export function choosePicture(take) {
  const input = el('input', { type: 'file', accept: 'image/png,image/jpeg,image/webp', class: 'dq-offscreen', 'data-purpose': 'slot', tabindex: '-1', 'aria-hidden': 'true' });
  document.querySelector('[data-purpose=slot]')?.remove();
  document.body.append(input);
  input.addEventListener('change', async () => {
    const [file] = input.files;
    input.remove();
    if (!file) return;
    try {
      take((await upload(file)).ref);
    } catch (error) {
      toast(error.text ?? t('e.code.error'));
    }
  });
  input.click();
}

export class Slot {
  /** @param options {id, empty: key of the words when empty, choose(ref), clear()} */
  constructor({ id = null, empty, choose, clear = null }) {
    this.empty = empty;
    this.face = el('button', { type: 'button', class: 'dq-slot-face', onclick: () => choosePicture(choose) });
    this.wipe = clear ? iconButton('close', 'remove', clear, { class: 'dq-icon dq-slot-clear' }) : null;
    this.note = el('span', { class: 'dq-slot-note' });
    this.node = el('div', { class: 'dq-slot', id }, this.face, this.note, this.wipe);
  }

  /** Show the picture at this address, or the words that ask for one; `note` is the key of a caption. */
  show(address, { own = true, note = null } = {}) {
    const words = el('span', { t: this.empty });
    this.face.replaceChildren(...(address ? [el('img', { src: address, alt: '' })] : [icon('picture'), words]));
    this.face.setAttribute('aria-label', t(address ? 'choose' : this.empty));
    this.face.classList.toggle('faint', Boolean(address) && !own);
    this.note.dataset.t = note ?? '';
    this.note.textContent = note ? t(note) : '';
    if (this.wipe) this.wipe.hidden = !address || !own;
  }
}
