// Pulls on the board: arrows from handle to target, the tool that draws and moves them, keys, and a look at the bend.
import { el, iconButton, language, t, url } from './base.js';
import { keepUri } from './easel.js';
import { bent, freedomOf, smallOf } from './warp.js';

const REACH = 13; // screen pixels around an end
const FINGER = 24;
const SLACK = 4; // a pointer that moved less has only pressed: it holds the place
const HEAD = 11;

export class DragCanvas {
  /** @param stage {drag, board: Board} */
  constructor(stage) {
    const { drag, board } = stage;
    Object.assign(this, { drag, home: board, board: board.board, viewport: board.viewport, past: drag.past });
    this.held = null;
    this.small = null;
    this.waiting = false;
    this.looking = true;
    this.true = null; // {key, bitmap}: the studio's own preview of these pulls
    this.kept = null; // {uri, ref}: the mask as it was last uploaded
    this.canvas = el('canvas', { class: 'dq-bent' });
    this.arrows = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    this.arrows.classList.add('dq-layer', 'dq-arrows');
    this.node = el('div', { class: 'dq-pulls', hidden: true }, this.arrows);
    board.overlay.before(this.canvas);
    board.world.append(this.node);
    this.pullButton = iconButton('pull', 'g.tool.pull', () => board.choose('pull'), { 'data-tool': 'pull' });
    this.previewButton = iconButton('bend', 'g.preview', () => this.look(!this.looking), { class: 'dq-icon dq-preview-bend', 'aria-pressed': 'true' });
    this.front = el('span', { class: 'dq-editor-tools' }, this.pullButton, this.previewButton);
    board.toolbar.insertBefore(this.front, board.toolButtons[0]);
    this.wrong = el('p', { class: 'dq-wrong', role: 'alert', hidden: true });
    this.status = el('span', { class: 'dq-offscreen', role: 'status' });
    this.bar = el('div', { class: 'dq-region-bar dq-drag-bar', hidden: true }, el('p', { class: 'dq-tip' }, el('span', { t: 'g.hint' }), ' ', el('span', { class: 'dq-keys', t: 'g.keys' })), this.wrong, this.status);
    board.board.after(this.bar);
    board.tools.add(this.tool());
    drag.watchers.add(() => this.refresh());
    board.board.addEventListener('dq:zoom', () => this.draw());
    board.image.addEventListener('load', () => { this.small = null; this.bend(); });
    board.overlay.addEventListener('dq:painted', () => this.bend());
  }

  tool() {
    return {
      name: 'pull', down: (place, event) => this.down(place, event), move: (place, event) => this.move(place, event),
      hover: (place) => this.hover(place), up: () => this.up(), cancel: () => this.cancel(), key: (event) => this.key(event),
    };
  }

  begin(tool = null) {
    this.node.hidden = this.bar.hidden = false;
    this.home.choose(tool ?? 'pull');
    this.refresh();
  }

  end() {
    this.cancel();
    this.node.hidden = this.bar.hidden = true;
    this.canvas.style.display = 'none';
    this.board.style.cursor = '';
  }

  chose(name) {
    this.pullButton.setAttribute('aria-pressed', String(name === 'pull'));
    this.board.style.cursor = name === 'pull' ? 'crosshair' : '';
  }

  step(way) {
    this.drag.step(way);
  }

  // pointer -----------------------------------------------------------------------------------------------------------
  /** The end under the pointer, targets first: {index, end}; or null. */
  endAt({ x, y }, event) {
    const reach = (event?.pointerType === 'touch' ? FINGER : REACH) / this.viewport.scale;
    let best = null;
    this.drag.pulls.forEach((pull, index) => ['to', 'from'].forEach((end) => {
      const away = Math.hypot(pull[end].x + 0.5 - x, pull[end].y + 0.5 - y);
      if (away <= reach && (!best || away < best.away)) best = { away, index, end };
    }));
    return best && { index: best.index, end: best.end };
  }

  hover(place) {
    const over = this.endAt(place, null) ? 'move' : 'crosshair';
    if (this.board.style.cursor !== over) this.board.style.cursor = over;
  }

  down(place, event) {
    const { drag } = this;
    const { width, height } = drag.size;
    const end = this.endAt(place, event);
    if (!end && (place.x < 0 || place.y < 0 || place.x >= width || place.y >= height)) {
      drag.choose(null);
      return;
    }
    const before = drag.snapshot();
    if (end) drag.choose(end);
    else if (!drag.add(place, place)) return;
    this.held = { before, fresh: !end, at: { x: event.clientX, y: event.clientY }, moved: false };
    this.draw();
  }

  move(place, event) {
    const { held } = this;
    if (!held) return;
    if (!held.moved && Math.hypot(event.clientX - held.at.x, event.clientY - held.at.y) < SLACK) return;
    held.moved = true;
    this.drag.place(place);
    this.draw();
    this.bend();
  }

  up() {
    const { held } = this;
    this.held = null;
    if (!held || !(held.fresh || held.moved)) return;
    this.drag.remember(held.before);
    this.drag.tell();
  }

  /** A second finger came, or Escape: what is in the hand is put back. */
  cancel() {
    const { held, drag } = this;
    this.held = null;
    if (!held) return false;
    drag.pulls = JSON.parse(held.before.data);
    drag.chosen = null;
    drag.tell();
    return true;
  }

  // keys --------------------------------------------------------------------------------------------------------------
  key(event) {
    const { drag } = this;
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && (key === 'z' || key === 'y')) drag.step(key === 'y' || event.shiftKey ? 'forth' : 'back');
    else if (event.key.startsWith('Arrow') && drag.chosen) this.nudge(event);
    else if (event.key === 'Delete' || event.key === 'Backspace') drag.remove();
    else if (event.key === 'Escape') this.cancel() || drag.choose(null);
    else if (event.key === 'Enter') this.enter();
    else if (event.key === 'PageDown' || event.key === 'PageUp') this.next(event.key === 'PageDown' ? 1 : -1);
    else return false;
    return true;
  }

  nudge(event) {
    const { drag } = this;
    const { width, height } = drag.size;
    const step = Math.max(1, Math.round(Math.min(width, height) / 128)) * (event.shiftKey ? 8 : 1);
    const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const { x, y } = drag.pulls[drag.chosen.index][drag.chosen.end];
    drag.remember();
    drag.place({ x: x + dx, y: y + dy });
    drag.tell();
  }

  /** A pull in the middle of the picture, a short way to the right. */
  enter() {
    const { drag } = this;
    const { width, height } = drag.size;
    const before = drag.snapshot();
    if (!drag.add({ x: width / 2, y: height / 2 }, { x: width * 0.6, y: height / 2 })) return;
    drag.remember(before);
    drag.tell();
  }

  next(by) {
    const { pulls, chosen } = this.drag;
    if (!pulls.length) return;
    const count = pulls.length * 2;
    const at = chosen ? (chosen.index * 2 + (chosen.end === 'to' ? 1 : 0) + by + count) % count : by > 0 ? 0 : count - 1;
    this.drag.choose({ index: Math.floor(at / 2), end: at % 2 ? 'to' : 'from' });
  }

  // what is seen ------------------------------------------------------------------------------------------------------
  refresh() {
    if (this.node.hidden) return;
    this.draw();
    this.bend();
    this.home.refresh();
    const { chosen, pulls } = this.drag;
    const said = chosen ? t(`g.end.${chosen.end}`, { number: chosen.index + 1, ...pulls[chosen.index][chosen.end] }) : '';
    if (this.status.textContent !== said) this.status.textContent = said;
  }

  draw() {
    if (this.node.hidden) return;
    const { pulls, chosen, size: { width, height } } = this.drag;
    this.arrows.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const pixel = 1 / this.viewport.scale;
    this.arrows.innerHTML = pulls.map((pull, index) => this.arrow(pull, index === chosen?.index ? chosen.end : null, pixel)).join('');
  }

  arrow({ from, to }, end, pixel) {
    const [x0, y0, x1, y1] = [from.x + 0.5, from.y + 0.5, to.x + 0.5, to.y + 0.5];
    const long = Math.hypot(x1 - x0, y1 - y0);
    const dot = (name, x, y) => `<circle class="${name}${end === name ? ' chosen' : ''}" cx="${x}" cy="${y}" r="${(end === name ? 8 : 6) * pixel}"/>`;
    if (long < 0.5) return `<circle class="pin${end ? ' chosen' : ''}" cx="${x0}" cy="${y0}" r="${11 * pixel}"/>${dot('from', x0, y0)}`;
    const [ux, uy] = [(x1 - x0) / long, (y1 - y0) / long];
    const head = Math.min(HEAD * pixel, long / 2);
    const [bx, by] = [x1 - ux * (head + 6 * pixel), y1 - uy * (head + 6 * pixel)];
    const line = `<path class="back" d="M${x0} ${y0}L${bx} ${by}"/><path class="shaft" d="M${x0} ${y0}L${bx} ${by}"/>`;
    const [tx, ty] = [bx + ux * head, by + uy * head];
    const tip = `<path class="tip" d="M${tx} ${ty}L${bx - uy * head * 0.55} ${by + ux * head * 0.55}L${bx + uy * head * 0.55} ${by - ux * head * 0.55}Z"/>`;
    return line + tip + dot('from', x0, y0) + dot('to', x1, y1);
  }

  look(on) {
    this.looking = on;
    this.previewButton.setAttribute('aria-pressed', String(on));
    this.bend();
  }

  /** Show the bend with the next frame; a slow machine skips some. */
  bend() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.bendNow(); });
  }

  bendNow() {
    const { pulls, size: { width, height } } = this.drag;
    const { image, overlay } = this.home;
    const pulled = pulls.some(({ from, to }) => from.x !== to.x || from.y !== to.y);
    const on = this.looking && pulled && !this.node.hidden && image.complete && image.naturalWidth > 0;
    this.canvas.style.display = on ? 'block' : 'none';
    if (!pulled) this.wrong.hidden = true;
    if (!on) return;
    const known = !this.held && this.true?.key === this.subject;
    if (known && this.true.bitmap) return void this.put(this.true.bitmap);
    this.small ??= smallOf(image, width, height);
    const { pixels, scale } = this.small;
    const scaled = ({ x, y }) => ({ x: x * scale, y: y * scale });
    const made = bent(pixels, pulls.map(({ from, to }) => ({ from: scaled(from), to: scaled(to) })), freedomOf(overlay, pixels));
    this.put(made);
    if (!this.held && !known) this.ask();
  }

  put(made) {
    this.canvas.width = made.width;
    this.canvas.height = made.height;
    const context = this.canvas.getContext('2d');
    if (made instanceof ImageData) context.putImageData(made, 0, 0);
    else context.drawImage(made, 0, 0);
  }

  /** What a preview depends on. */
  get subject() {
    const { value } = this.drag.app;
    return JSON.stringify([value.image?.ref, value.points, value.mask]);
  }

  /** The studio's own preview once the hand rests, one at a time, the newest wins; ours stays where there is none. */
  async ask() {
    if (this.asking) return;
    const key = this.subject;
    const { image, mask, points } = this.drag.app.value;
    this.asking = true;
    try {
      if (mask && this.kept?.uri !== mask) this.kept = { uri: mask, ref: await keepUri(mask) };
      const body = JSON.stringify({ image: image.ref, points, mask: mask && this.kept.ref });
      const answer = await fetch(url(`web/drag?lang=${language()}`), { method: 'POST', body, headers: { 'X-Danqing': 'page', 'Content-Type': 'application/json' } });
      const seen = answer.ok && answer.headers.get('Content-Type') === 'image/webp';
      const wrong = answer.ok && !seen ? (await answer.json()).text : '';
      this.true = { key, bitmap: seen ? await createImageBitmap(await answer.blob()) : null };
      this.wrong.textContent = wrong;
      this.wrong.hidden = !wrong;
    } catch {
      this.true = { key, bitmap: null }; // the header says that the studio does not answer
    }
    this.asking = false;
    this.canvas.dataset.true = String(this.true.bitmap !== null);
    if (!this.held) this.bend();
  }
}
