// Which tool has the pointer. A tool is {name, cursor, down(p, event), move(p, event), up(), cancel(), key(event)}; later
// issues add boxes, lassos and drags by `add`.

export class Tools {
  constructor(board, viewport) {
    this.board = board;
    this.viewport = viewport;
    this.all = new Map();
    this.active = null;
    this.pointers = new Map();
    this.panning = false;
    this.space = false;
    board.addEventListener('pointerdown', (event) => this.down(event));
    board.addEventListener('pointermove', (event) => this.move(event));
    for (const name of ['pointerup', 'pointercancel']) board.addEventListener(name, (event) => this.up(event));
    board.addEventListener('keydown', (event) => this.key(event));
    board.addEventListener('keyup', (event) => event.code === 'Space' && this.setSpace(false));
    board.addEventListener('blur', () => this.setSpace(false));
  }

  add(tool) {
    this.all.set(tool.name, tool);
  }

  choose(name) {
    this.active?.cancel?.();
    this.active = this.all.get(name) ?? null;
    this.board.dataset.tool = this.active?.name ?? 'view';
    this.board.dispatchEvent(new CustomEvent('dq:tool'));
  }

  setSpace(on) {
    this.space = on;
    this.board.classList.toggle('panning', on);
  }

  down(event) {
    if (this.board.classList.contains('flat') || event.target.closest('button, a, input')) return;
    this.board.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pointers.size === 2) {
      this.active?.cancel?.();
      this.panning = false;
      return;
    }
    this.panning = this.space || event.button === 1 || !this.active;
    if (!this.panning && event.button === 0) this.active.down(this.viewport.toPicture(event), event);
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) {
      this.active?.hover?.(this.viewport.toPicture(event));
      return;
    }
    if (this.pointers.size === 2) this.pinch(event, last);
    else if (this.panning) this.viewport.pan(event.clientX - last.x, event.clientY - last.y);
    else this.active?.move(this.viewport.toPicture(event), event);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }

  pinch(event, last) {
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const box = this.board.getBoundingClientRect();
    const before = Math.hypot(last.x - other.x, last.y - other.y) || 1;
    const after = Math.hypot(event.clientX - other.x, event.clientY - other.y) || 1;
    this.viewport.zoom(after / before, (event.clientX + other.x) / 2 - box.left, (event.clientY + other.y) / 2 - box.top);
    this.viewport.pan((event.clientX - last.x) / 2, (event.clientY - last.y) / 2);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (!this.panning) this.active?.up?.();
    this.panning = false;
  }

  key(event) {
    if (event.target !== this.board || this.board.classList.contains('flat')) return;
    const { viewport } = this;
    if (event.code === 'Space') this.setSpace(true);
    else if (event.key === '+' || event.key === '=') viewport.zoom(1.25);
    else if (event.key === '-') viewport.zoom(0.8);
    else if (event.key === '0') viewport.fit();
    else if (this.active?.key?.(event)) return event.preventDefault();
    else if (event.key.startsWith('Arrow')) {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      viewport.pan(...step);
    } else return undefined;
    return event.preventDefault();
  }
}
