// Two pads with a brush: a sketch that becomes a control map, and the area where a control acts.
import { el, iconButton, t } from './base.js';
import { Drafts } from './draft.js';
import { Easel, keepUri } from './easel.js';
import { Mask } from './mask.js';

const INK = [0x1e, 0x1b, 0x18];
const CINNABAR = [0xc8, 0x37, 0x2d];

export class Pad {
  /** @param options {kind, frame, under, load: address of what was painted before, done, words: keys of title and hint, if others} */
  constructor(options) {
    this.options = options;
    const { kind, frame, under } = options;
    const words = options.words ?? { sketch: ['c.sketch.title', 'c.sketch.hint'], area: ['c.mask.title', 'c.mask.hint'] }[kind];
    this.easel = new Easel({ kind, title: words[0], hint: words[1], ...frame, under, finish: () => this.finish() });
    this.canvas = el('canvas', { class: 'dq-layer dq-strokes' });
    const cursor = el('div', { class: 'dq-cursor' });
    this.easel.world.append(this.canvas, cursor);
    this.easel.board.classList.add('masking');
    this.brush = new Mask(this.canvas, cursor, (uri) => this.stroke(uri), kind === 'sketch' ? INK : CINNABAR);
    this.brush.reset(frame.width, frame.height);
    this.uri = null;
    this.ready = this.begin(options.load);
    this.bar(kind);
  }

  async begin(address) {
    if (kindOf(this) === 'sketch') this.brush.size = Math.max(3, Math.round(Math.min(this.canvas.width, this.canvas.height) / 72));
    this.loading = true;
    if (address) await this.brush.load(address).catch(() => {}); // it is gone; the pad begins empty
    this.loading = false;
    this.refresh();
  }

  bar(kind) {
    const { easel, brush } = this;
    for (const name of ['brush', 'erase']) easel.tools.add(brush.tool(name));
    const names = kind === 'sketch' ? ['c.sketch.pen', 's.tool.erase', 'c.sketch.width', 'c.sketch.clear'] : ['s.tool.brush', 's.tool.erase', 's.size', 's.clear'];
    this.buttons = ['view', 'brush', 'erase'].map((name, n) =>
      iconButton(name, n ? names[n - 1] : 's.tool.view', () => this.choose(name), { 'data-tool': name }));
    this.range = el('input', { type: 'range', min: '1', max: '128', class: 'dq-brush-size', tAria: names[2], tTitle: names[2] });
    this.range.addEventListener('input', () => brush.setSize(Number(this.range.value)));
    this.canvas.addEventListener('dq:size', () => this.refresh());
    this.undoButton = iconButton('undo', 's.undo', () => brush.undoOne());
    this.redoButton = iconButton('redo', 's.redo', () => brush.redoOne());
    easel.fill(...this.buttons, this.range, this.undoButton, this.redoButton, iconButton('clear', names[3], () => brush.clear()),
      kind === 'area' ? iconButton('invert', 's.invert', () => brush.invert()) : null);
    easel.board.addEventListener('keydown', (event) => this.key(event));
    easel.board.addEventListener('pointerleave', () => brush.hover(null));
    this.choose('brush');
  }

  key(event) {
    if (event.target !== this.easel.board) return;
    const held = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (held && (key === 'z' || key === 'y')) (key === 'y' || event.shiftKey ? this.brush.redoOne() : this.brush.undoOne());
    else if (!held && 'bev'.includes(key)) this.choose({ b: 'brush', e: 'erase', v: 'view' }[key]);
    else if (!held && key === 'i' && kindOf(this) === 'area') this.brush.invert();
    else return;
    event.preventDefault();
  }

  choose(name) {
    this.easel.tools.choose(name);
    this.refresh();
  }

  refresh() {
    const active = this.easel.tools.active?.name ?? 'view';
    for (const button of this.buttons ?? []) button.setAttribute('aria-pressed', String(button.dataset.tool === active));
    if (!this.range) return;
    this.range.value = String(this.brush.size);
    this.undoButton.disabled = !this.brush.undo.canUndo;
    this.redoButton.disabled = !this.brush.undo.canRedo;
  }

  stroke(uri) {
    this.uri = uri;
    if (!this.loading) this.easel.dirty = true;
    this.easel.fail(null);
    this.refresh();
  }

  async open() {
    this.easel.open(() => this.reopen());
    await this.ready;
  }

  reopen() {
    const again = new this.constructor({ ...this.options, load: this.uri });
    again.easel.dirty = true;
    again.open();
  }
}

const kindOf = (pad) => pad.options.kind;

/** A drawing that is a control map: ink on paper here, white on black for the ControlNet. */
export class SketchPad extends Pad {
  /** @param options {frame, under, load, app, live: {on}, try(ref): the unit follows it for a draft, undo(), done(ref, drawing)} */
  constructor(options) {
    super({ ...options, kind: 'sketch' });
    this.tried = false;
    this.number = 0;
    this.drafts = new Drafts(options.app);
    const { live } = options;
    this.live = el('input', { type: 'checkbox', checked: live.on });
    this.live.addEventListener('change', () => { live.on = this.live.checked; this.easel.node.classList.toggle('live', live.on); if (live.on) this.preview(); });
    this.easel.node.classList.toggle('live', live.on);
    this.easel.side.append(el('label', { class: 'dq-check' }, this.live, el('span', { t: 'c.sketch.live' })), el('p', { class: 'dq-tip', t: 'c.sketch.live.tip' }), this.drafts.node);
    this.easel.closed = () => this.drafts.close();
    this.easel.left = () => { this.number += 1; if (this.tried) options.undo(); };
  }

  stroke(uri) {
    super.stroke(uri);
    if (!this.loading && this.options.live.on) this.preview();
  }

  /** The unit follows what is drawn so far, and a draft is painted. */
  async preview() {
    if (!this.uri) return;
    this.number += 1;
    const { number } = this;
    let ref;
    try {
      ref = await keepUri(this.uri);
    } catch (error) {
      if (number === this.number) this.drafts.fail(error.text ?? t('e.code.error'));
      return;
    }
    if (number !== this.number) return; // a newer stroke, or the pad is closed
    this.tried = true;
    this.options.try(ref);
    this.drafts.want();
  }

  async finish() {
    if (!this.uri) return t('c.sketch.empty');
    this.number += 1;
    const { frame, done } = this.options;
    done(await keepUri(this.uri), { kind: 'sketch', ...frame });
    return null;
  }
}

/** Where a control acts: white where it does; an empty area is everywhere. */
export class AreaPad extends Pad {
  /** @param options {frame, under, load, done(ref or null)} */
  constructor(options) {
    super({ ...options, kind: 'area' });
  }

  async finish() {
    this.options.done(this.uri ? await keepUri(this.uri) : null);
    return null;
  }
}
