// Zoom and pan of one picture on the board: wheel, pinch, space-drag, middle button, keys.

const MIN = 0.05;
const MAX = 32;
const FIT_MAX = 5;

export class Viewport {
  /** @param board the element that clips @param world the element of the picture's size inside it */
  constructor(board, world) {
    this.board = board;
    this.world = world;
    this.width = 1;
    this.height = 1;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.margins = { left: 0, right: 0, top: 0, bottom: 0 };
    this.fitted = true;
    board.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => (this.fitted ? this.fit() : this.apply())).observe(board);
  }

  /** Show a picture of this many pixels; a picture of another shape is fitted anew. */
  setSize(width, height) {
    const same = width === this.width && height === this.height;
    this.width = width;
    this.height = height;
    this.world.style.width = `${width}px`;
    this.world.style.height = `${height}px`;
    if (!same || this.fitted) this.fit();
  }

  /** Leave room around the picture, in picture pixels: the frame of an extension. */
  setMargins(margins) {
    this.margins = margins;
    if (this.fitted) this.fit();
  }

  fit() {
    const { left, right, top, bottom } = this.margins;
    const width = this.width + left + right;
    const height = this.height + top + bottom;
    const { clientWidth: w, clientHeight: h } = this.board;
    const pad = 24;
    this.scale = Math.max(MIN, Math.min((w - pad) / width, (h - pad) / height, FIT_MAX));
    this.x = (w - width * this.scale) / 2 + left * this.scale;
    this.y = (h - height * this.scale) / 2 + top * this.scale;
    this.fitted = true;
    this.apply();
  }

  apply() {
    this.world.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.world.style.setProperty('--zoom', this.scale);
    this.board.dispatchEvent(new CustomEvent('dq:zoom'));
  }

  /** Zoom by a factor about a point of the board (its middle if none). */
  zoom(factor, cx = this.board.clientWidth / 2, cy = this.board.clientHeight / 2) {
    const scale = Math.min(MAX, Math.max(MIN, this.scale * factor));
    const real = scale / this.scale;
    this.x = cx - (cx - this.x) * real;
    this.y = cy - (cy - this.y) * real;
    this.scale = scale;
    this.fitted = false;
    this.apply();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.apply();
  }

  wheel(event) {
    if (this.board.classList.contains('flat')) return;
    event.preventDefault();
    const box = this.board.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }

  /** A pointer's place in picture pixels. */
  toPicture(event) {
    const box = this.board.getBoundingClientRect();
    return { x: (event.clientX - box.left - this.x) / this.scale, y: (event.clientY - box.top - this.y) / this.scale };
  }
}
