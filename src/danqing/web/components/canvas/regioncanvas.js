// Regions on the board: layer, tools, toolbar, keys, and the bar below with the chosen region's words.
import { el, iconButton, t } from './base.js';
import { kept, resized, shifted } from './boxes.js';
import { RegionLayer } from './regionlayer.js';
import { RegionTools } from './regiontools.js';

const TOOLS = { region: ['select', 'r.tool.select'], 'region-box': ['box', 'r.tool.box'], 'region-lasso': ['lasso', 'r.tool.lasso'], 'region-brush': ['brush', 'r.tool.brush'], 'region-erase': ['erase', 'r.tool.erase'] };

export class RegionCanvas {
  /** @param stage {regions, board: Board, leaveRegions()} */
  constructor(stage) {
    const { regions, board } = stage;
    Object.assign(this, { stage, regions, home: board, board: board.board, viewport: board.viewport });
    this.size = 0;
    this.layer = new RegionLayer(regions, board.world);
    this.hand = new RegionTools(this);
    for (const tool of this.hand.all()) board.tools.add(tool);
    this.buttons = Object.entries(TOOLS).map(([name, [icon, key]]) => iconButton(icon, key, () => board.choose(name), { 'data-tool': name }));
    this.range = el('input', { type: 'range', min: '1', max: '128', class: 'dq-brush-size', tAria: 's.size', tTitle: 's.size' });
    this.range.addEventListener('input', () => this.setSize(Number(this.range.value)));
    this.undoButton = iconButton('undo', 'r.undo', () => regions.step('back'), { class: 'dq-icon dq-region-undo' });
    this.redoButton = iconButton('redo', 's.redo', () => regions.step('forth'), { class: 'dq-icon dq-region-redo' });
    this.done = el('button', { type: 'button', class: 'dq-act dq-region-done', t: 'r.done', onclick: () => stage.leaveRegions() });
    this.tools = el('span', { class: 'dq-editor-tools' }, ...this.buttons, this.range, this.undoButton, this.redoButton, this.done);
    this.bar = this.buildBar();
    board.toolbar.insertBefore(this.tools, board.toolbar.querySelector('.dq-spring'));
    board.board.after(this.bar);
    regions.watchers.add(() => this.refresh());
    board.board.addEventListener('pointerleave', () => this.layer.brush(null));
  }

  buildBar() {
    this.name = el('strong', {});
    this.words = el('input', { type: 'text', maxlength: '20000', class: 'dq-region-words', tAria: 'r.prompt', tPlaceholder: 'r.prompt' });
    this.words.addEventListener('input', () => this.regions.setWords(this.regions.selected, this.words.value));
    this.words.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || !['Enter', 'Escape'].includes(event.key) || event.isComposing) return;
      event.preventDefault();
      this.board.focus();
    });
    this.hint = el('p', { class: 'dq-tip' }, el('span', { t: 'r.hint' }), ' ', el('span', { class: 'dq-keys', t: 'r.keys' }));
    this.chosen = el('div', { class: 'dq-region-chosen' }, el('i', { class: 'dq-dot' }), this.name, this.words,
      iconButton('clear', 'r.delete', () => this.remove()));
    this.status = el('span', { class: 'dq-offscreen', role: 'status' });
    return el('div', { class: 'dq-region-bar', hidden: true }, this.hint, this.chosen, this.status);
  }

  /** The tools come to the board. @param tool the one to take into the hand */
  begin(tool = null) {
    const { width, height } = this.regions.frame;
    this.range.max = String(Math.max(32, Math.round(Math.max(width, height) / 2)));
    if (!this.size || this.size > Math.max(width, height)) this.setSize(Math.max(4, Math.round(Math.min(width, height) / 8)));
    this.layer.node.hidden = this.bar.hidden = false;
    this.home.choose(tool ?? (this.regions.all.length ? 'region' : 'region-box'));
    this.refresh();
  }

  end() {
    this.hand.cancel();
    this.layer.node.hidden = this.bar.hidden = true;
    this.board.style.cursor = '';
    this.board.classList.remove('brushing');
  }

  setSize(size) {
    this.size = Math.min(1024, Math.max(1, Math.round(size)));
    this.range.value = String(this.size);
  }

  /** Another tool is in the hand. */
  chose(name) {
    const brushing = name === 'region-brush' || name === 'region-erase';
    this.board.classList.toggle('brushing', brushing);
    this.board.style.cursor = brushing ? 'none' : 'crosshair';
    if (!brushing) this.layer.brush(null);
    this.range.hidden = !brushing;
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(button.dataset.tool === name));
  }

  /** A region was drawn: its words come next. */
  drawn(region, touch) {
    const name = this.home.tools.active?.name;
    if (name === 'region-box' || name === 'region-lasso') this.home.choose('region');
    this.regions.select(region);
    if (!touch) this.words.focus({ preventScroll: true });
  }

  remove() {
    if (!this.regions.selected) return;
    this.regions.remove(this.regions.selected);
    this.board.focus({ preventScroll: true });
  }

  // keys --------------------------------------------------------------------------------------------------------------
  key(event) {
    const held = event.ctrlKey || event.metaKey;
    const { regions } = this;
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (held && !move) return this.command(event.key.toLowerCase(), event.shiftKey);
    if (move && regions.selected) this.nudge(move, event);
    else if (event.key === 'Delete' || event.key === 'Backspace') this.remove();
    else if (event.key === 'Escape') this.letGo();
    else if (event.key === 'Enter') this.enter();
    else if (event.key === 'PageDown' || event.key === 'PageUp') this.next(event.key === 'PageDown' ? 1 : -1);
    else if (event.key === '[' || event.key === ']') this.setSize(this.size * (event.key === '[' ? 0.8 : 1.25));
    else return false;
    return true;
  }

  command(key, shift) {
    if (key !== 'z' && key !== 'y') return false;
    this.regions.step(key === 'y' || shift ? 'forth' : 'back');
    return true;
  }

  letGo() {
    if (!this.hand.cancel()) this.regions.select(null);
  }

  /** Words for the chosen region; without one, a new box in the middle. */
  enter() {
    const { regions } = this;
    const { width, height } = regions.frame;
    if (regions.selected) return void this.words.focus();
    const before = regions.snapshot();
    return void this.hand.made(regions.add({ box: { left: width / 4, top: height / 4, right: width * 0.75, bottom: height * 0.75 } }), before, true);
  }

  next(by) {
    const { all, selected } = this.regions;
    if (!all.length) return;
    const at = selected ? all.indexOf(selected) + by : by > 0 ? 0 : -1;
    this.regions.select(all.at(at % all.length));
  }

  nudge([h, v], event) {
    const { regions } = this;
    const { frame } = regions;
    const box = regions.boxOf(regions.selected);
    if (!box) return;
    const step = Math.max(1, Math.round(Math.min(frame.width, frame.height) / 128)) * (event.shiftKey ? 8 : 1);
    const made = event.ctrlKey || event.metaKey ? resized(box, 'se', h * step, v * step, frame) : kept(shifted(box, h * step, v * step), frame);
    this.hand.place(regions.selected, made);
  }

  refresh() {
    const { regions } = this;
    const { selected } = regions;
    this.undoButton.disabled = !regions.past.canUndo;
    this.redoButton.disabled = !regions.past.canRedo;
    this.hint.hidden = selected !== null;
    this.chosen.hidden = selected === null;
    if (!this.hand.held) this.layer.draw();
    if (!selected) return;
    this.chosen.style.setProperty('--c', `rgb(${regions.tint(selected).join(' ')})`);
    this.name.textContent = t('r.name', { number: regions.all.indexOf(selected) + 1 });
    if (this.words.value !== selected.prompt) this.words.value = selected.prompt;
    const said = `${this.name.textContent}: ${regions.placeWords(selected)}`;
    if (this.status.textContent !== said) this.status.textContent = said;
  }
}
