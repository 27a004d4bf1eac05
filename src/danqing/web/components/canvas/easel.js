// A sheet over the page to draw on: one zoomable board with a toolbar, room beside it, and a yes or no at its foot.
import { el, iconButton, t, toast } from './base.js';
import { upload } from './drop.js';
import { paintedSize } from './fields.js';
import { Tools } from './tools.js';
import { Viewport } from './viewport.js';

const LEAST = 512; // OpenPose's and scribble's lines are meant for pictures of this size
const MOST = 2048;
const NATIVE = 512;

/** The frame of a drawing: of a picture's shape, else of the painting's; its shorter side has at least 512 px. */
export async function frameFor(address) {
  const { width_px: width = NATIVE, height_px: height = NATIVE } = paintedSize();
  const size = (address && (await sizeOf(address))) || [width, height];
  const scale = Math.min(Math.max(1, LEAST / Math.min(...size)), MOST / Math.max(...size));
  const [w, h] = size.map((side) => Math.max(16, Math.round(side * scale)));
  return { width: w, height: h };
}

async function sizeOf(address) {
  const picture = new Image();
  picture.src = address;
  try {
    await picture.decode();
  } catch {
    return null; // it is gone; an empty frame serves
  }
  return [picture.naturalWidth, picture.naturalHeight];
}

/** Keep what stands on a canvas in the studio; gives its ref. */
export async function keepCanvas(canvas) {
  const blob = await new Promise((done) => { canvas.toBlob(done, 'image/png'); });
  return (await upload(blob)).ref;
}

/** Keep a data URI in the studio; gives its ref. */
export async function keepUri(uri) {
  return (await upload(await (await fetch(uri)).blob())).ref;
}

export class Easel {
  /** @param options {kind, title, hint: keys of words, width, height, under: address of a picture to draw over, finish()} */
  constructor({ kind, title, hint, width, height, under = null, finish }) {
    Object.assign(this, { width, height, finish });
    this.dirty = false;
    this.world = el('div', { class: 'dq-world' }, under ? el('img', { class: 'dq-under', src: under, alt: '', draggable: 'false' }) : null);
    this.board = el('div', { class: 'dq-board', tabindex: '0', role: 'application', tAria: title, 'aria-describedby': 'dq-easel-hint', autofocus: true }, this.world);
    this.viewport = new Viewport(this.board, this.world);
    this.tools = new Tools(this.board, this.viewport);
    this.side = el('div', { class: 'dq-easel-side' });
    this.note = el('p', { class: 'dq-wrong', role: 'alert', hidden: true });
    this.use = el('button', { type: 'button', class: 'dq-act dq-use', t: 'c.easel.use', onclick: () => this.yes() });
    this.bar = el('div', { class: 'dq-toolbar dq-easel-bar', role: 'toolbar', tAria: 's.tools' });
    this.node = el('dialog', { class: `dq-easel dq-easel-${kind}`, tAria: title },
      el('div', { class: 'dq-easel-head' }, el('h2', { t: title }), el('span', { class: 'dq-spring' }), iconButton('close', 'c.easel.cancel', () => this.no(), { class: 'dq-icon dq-easel-close' })),
      this.bar, el('div', { class: 'dq-easel-body' }, this.board, this.side),
      el('div', { class: 'dq-easel-foot' }, el('p', { class: 'dq-tip', id: 'dq-easel-hint', t: hint }), this.note,
        el('button', { type: 'button', class: 'dq-act', t: 'c.easel.cancel', onclick: () => this.no() }), this.use));
    this.node.addEventListener('cancel', (event) => { event.preventDefault(); this.no(); });
  }

  /** Put tools into the bar; zoom stands at its end. */
  fill(...tools) {
    const { viewport } = this;
    this.bar.append(...tools.filter(Boolean), el('span', { class: 'dq-spring' }), el('span', { class: 'dq-zooms' },
      iconButton('minus', 's.zoom.out', () => viewport.zoom(0.8)), iconButton('plus', 's.zoom.in', () => viewport.zoom(1.25)), iconButton('fit', 's.zoom.fit', () => viewport.fit())));
  }

  /** Opens; `again` opens the same drawing once more after a person has thrown it away. */
  open(again) {
    this.again = again;
    document.querySelector('.dq-stage-root, .dq-projects').append(this.node);
    this.node.showModal();
    this.viewport.setSize(this.width, this.height);
  }

  fail(text) {
    this.note.textContent = text ?? '';
    this.note.hidden = !text;
  }

  async yes() {
    this.use.disabled = true;
    try {
      const wrong = await this.finish();
      if (wrong) this.fail(wrong);
      else this.close();
    } catch (error) {
      this.fail(error.text ?? t('e.code.error'));
    }
    this.use.disabled = false;
  }

  no() {
    this.left?.();
    this.close();
    if (this.dirty && this.again) toast(t('c.easel.dropped'), { text: t('c.easel.back'), run: this.again });
  }

  close() {
    this.closed?.();
    this.node.close();
    this.node.remove();
  }
}
