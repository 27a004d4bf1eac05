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

  fit() {
    const { clientWidth: w, clientHeight: h } = this.board;
    const pad = 24;
    this.scale = Math.max(MIN, Math.min((w - pad) / this.width, (h - pad) / this.height, FIT_MAX));
    this.x = (w - this.width * this.scale) / 2;
    this.y = (h - this.height * this.scale) / 2;
    this.fitted = true;
    this.apply();
  }

  apply() {
    this.world.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
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
