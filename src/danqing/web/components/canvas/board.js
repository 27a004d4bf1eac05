// The board: one zoomable picture with its mask, or a grid of pictures, and the toolbar above.
import { el, iconButton, t } from './base.js';
import { Mask } from './mask.js';
import { Tools } from './tools.js';
import { Viewport } from './viewport.js';

const EDITORS = {
  region: (stage) => import('./regioncanvas.js').then(({ RegionCanvas }) => new RegionCanvas(stage)),
  drag: (stage) => import('./dragcanvas.js').then(({ DragCanvas }) => new DragCanvas(stage)),
};

export class Board {
  /** @param app {set(values), openRecord(id), show(view)} */
  constructor(app) {
    this.app = app;
    this.image = el('img', { class: 'dq-base', alt: '', draggable: 'false' });
    this.overlay = el('canvas', { class: 'dq-mask' });
    this.cursor = el('div', { class: 'dq-cursor' });
    this.frame = el('div', { class: 'dq-frame', hidden: true });
    this.world = el('div', { class: 'dq-world' }, this.frame, this.image, this.overlay, this.cursor);
    this.grid = el('div', { class: 'dq-grid' });
    this.panel = el('div', { class: 'dq-panel' });
    this.board = el('div', { class: 'dq-board', tabindex: '0', role: 'application', tAria: 's.canvas' }, this.world, this.grid, this.panel);
    this.viewport = new Viewport(this.board, this.world);
    this.tools = new Tools(this.board, this.viewport);
    this.mask = new Mask(this.overlay, this.cursor, (uri) => { app.set({ mask: uri }); this.refresh(); });
    for (const name of ['brush', 'erase']) this.tools.add(this.mask.tool(name));
    this.editors = {}; // tools for regions and drags, loaded when they are first wanted
    this.editor = null;
    this.editing = null;
    this.asked = 0;
    this.toolbar = this.buildToolbar();
    this.board.addEventListener('dq:zoom', () => this.refresh());
    this.board.addEventListener('keydown', (event) => this.key(event));
    this.board.addEventListener('pointerleave', () => this.mask.hover(null));
    this.mode('panel');
  }

  buildToolbar() {
    const tool = (icon, key, name) =>
      iconButton(icon, key, () => this.choose(name), { 'data-tool': name, class: 'dq-icon dq-for-mask' });
    this.toolButtons = [tool('view', 's.tool.view', 'view'), tool('brush', 's.tool.brush', 'brush'), tool('erase', 's.tool.erase', 'erase')];
    this.range = el('input', { type: 'range', min: '1', max: '128', class: 'dq-for-mask dq-brush-size', tAria: 's.size', tTitle: 's.size' });
    this.range.addEventListener('input', () => this.mask.setSize(Number(this.range.value)));
    this.overlay.addEventListener('dq:size', () => { this.range.value = this.mask.size; });
    const forMask = { class: 'dq-icon dq-for-mask' };
    this.undoButton = iconButton('undo', 's.undo', () => this.step('back'), forMask);
    this.redoButton = iconButton('redo', 's.redo', () => this.step('forth'), forMask);
    this.sides = el('div', { class: 'dq-sides', role: 'group' },
      el('button', { type: 'button', t: 's.source', 'data-view': 'source', onclick: () => this.app.show('source') }),
      el('button', { type: 'button', t: 'r.show', 'data-view': 'regions', onclick: () => this.app.showRegions() }),
      el('button', { type: 'button', t: 's.result', 'data-view': 'result', onclick: () => this.app.show('result') }));
    this.zoomText = el('output', { class: 'dq-zoom' });
    this.removeButton = iconButton('close', 'remove', () => this.app.setPicture(null), { class: 'dq-icon dq-for-source' });
    return el('div', { class: 'dq-toolbar', role: 'toolbar', tAria: 's.tools' },
      this.sides, ...this.toolButtons, this.range, this.undoButton, this.redoButton,
      iconButton('clear', 's.clear', () => this.mask.clear(), forMask),
      iconButton('invert', 's.invert', () => this.mask.invert(), forMask),
      this.removeButton,
      el('span', { class: 'dq-spring' }),
      el('span', { class: 'dq-zooms' },
        iconButton('minus', 's.zoom.out', () => this.viewport.zoom(0.8)), this.zoomText,
        iconButton('plus', 's.zoom.in', () => this.viewport.zoom(1.25)),
        iconButton('fit', 's.zoom.fit', () => this.viewport.fit())));
  }

  key(event) {
    if (event.target !== this.board || !this.masking || event.defaultPrevented) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (command && (key === 'z' || key === 'y')) this.step(key === 'y' || event.shiftKey ? 'forth' : 'back');
    else if (!command && key === 'd' && this.editing === 'drag') this.choose('pull');
    else if (!command && key === 'b') this.choose('brush');
    else if (!command && key === 'e') this.choose('erase');
    else if (!command && key === 'v') this.choose('view');
    else if (!command && key === 'i') this.mask.invert();
    else return;
    event.preventDefault();
  }

  choose(name) {
    this.tools.choose(name);
    this.editor?.chose(name);
    this.refresh();
  }

  /** Undo ('back') or redo ('forth') of what the tool in the hand does. */
  step(way) {
    if (this.tools.active?.name === 'pull') this.editor.step(way);
    else if (way === 'back') this.mask.undoOne();
    else this.mask.redoOne();
  }

  /** Tools for regions or drags come to the board, or leave it (null); `tool` is the one to take into the hand. */
  async edit(kind, tool = null) {
    this.editing = kind;
    this.board.dataset.editing = this.toolbar.dataset.editing = '';
    this.editor?.end();
    this.editor = null;
    this.tools.choose('view');
    if (kind === null) return;
    this.editors[kind] ??= EDITORS[kind](this.app);
    const editor = await this.editors[kind];
    if (this.editing !== kind || this.editor === editor) return;
    this.editor = editor;
    editor.begin(tool);
    this.board.dataset.editing = this.toolbar.dataset.editing = kind;
  }

  /** What the board shows: 'world' (one picture), 'grid' or 'panel' (words). */
  mode(kind) {
    this.kind = kind;
    this.world.hidden = kind !== 'world';
    this.grid.hidden = kind !== 'grid';
    this.panel.hidden = kind !== 'panel';
    this.board.classList.toggle('flat', kind !== 'world');
    this.toolbar.classList.toggle('no-zoom', kind !== 'world');
    if (kind !== 'world' && this.editing) this.edit(null);
  }

  /**
   * One picture, or an empty frame (address null) of this size; with `masking` the mask lies over it and the brush is
   * in the hand, with `editing` ('region', 'drag') the tools for that, `tool` first. `faint` shows it as a hint only.
   */
  async showPicture(address, { alt = '', masking = false, width = 0, height = 0, margins = null, editing = null, tool = null, faint = false } = {}) {
    this.asked += 1;
    const { asked } = this;
    this.extend(margins);
    const again = editing !== null && editing === this.editing;
    if (!again) this.edit(editing, tool);
    this.masking = masking;
    this.board.classList.toggle('masking', masking);
    this.toolbar.classList.toggle('masking', masking);
    if (editing === null) this.choose(masking ? 'brush' : 'view');
    else if (tool && this.editor) this.choose(tool);
    this.image.alt = alt;
    this.image.hidden = address === null;
    this.image.classList.toggle('faint', faint);
    this.world.classList.toggle('sheet', address === null || faint);
    this.mode('world');
    if (width) this.viewport.setSize(width, height);
    if (address === null) this.image.removeAttribute('src');
    else if (this.image.src !== address) {
      const next = new Image();
      next.src = address;
      try {
        await next.decode();
      } catch {
        return;
      }
      if (asked !== this.asked) return;
      this.image.src = address;
      if (!width) this.viewport.setSize(next.naturalWidth, next.naturalHeight);
    } else if (!width) this.viewport.setSize(this.image.naturalWidth, this.image.naturalHeight);
    this.refresh();
  }

  /** The frame that the picture will be extended to. */
  extend(margins) {
    const around = margins ?? { left: 0, right: 0, top: 0, bottom: 0 };
    this.frame.hidden = margins === null;
    this.frame.style.inset = ['top', 'right', 'bottom', 'left'].map((side) => `${-around[side]}px`).join(' ');
    this.viewport.setMargins(around);
  }

  /** Tiles: [{address | null, id | null, alt}], the finished ones can be opened. */
  showGrid(tiles) {
    this.mode('grid');
    this.masking = false;
    this.board.classList.remove('masking');
    this.toolbar.classList.remove('masking');
    const columns = Math.ceil(Math.sqrt(tiles.length));
    this.grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    this.grid.style.gridTemplateRows = `repeat(${Math.ceil(tiles.length / columns)}, minmax(0, 1fr))`;
    while (this.grid.children.length > tiles.length) this.grid.lastChild.remove();
    tiles.forEach((tile, i) => {
      let node = this.grid.children[i];
      if (!node) {
        node = el('button', { type: 'button', class: 'dq-tile' }, el('img', { alt: '', draggable: 'false' }));
        node.addEventListener('click', () => node.dataset.id && this.app.openRecord(node.dataset.id));
        this.grid.append(node);
      }
      const picture = node.firstChild;
      if (tile.address && picture.getAttribute('src') !== tile.address) picture.src = tile.address;
      picture.style.visibility = tile.address ? 'visible' : 'hidden';
      node.dataset.id = tile.id ?? '';
      node.disabled = !tile.id;
      node.setAttribute('aria-label', t('s.open', { prompt: tile.alt }));
    });
  }

  showPanel(...children) {
    this.mode('panel');
    this.masking = false;
    this.toolbar.classList.remove('masking');
    this.panel.replaceChildren(...children);
  }

  refresh() {
    this.zoomText.textContent = `${Math.round(this.viewport.scale * 100)}%`;
    const active = this.tools.active?.name ?? 'view';
    for (const button of this.toolButtons) button.setAttribute('aria-pressed', String(button.dataset.tool === active));
    this.range.max = String(Math.max(32, Math.round(Math.max(this.overlay.width, this.overlay.height) / 2)));
    this.range.value = String(this.mask.size);
    const { canUndo, canRedo } = (active === 'pull' && this.editor?.past) || this.mask.undo;
    this.undoButton.disabled = !canUndo;
    this.redoButton.disabled = !canRedo;
  }
}
