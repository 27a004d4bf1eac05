// Zoom and pan of one picture: the world is the picture's place on the board, in CSS pixels.

import { clamp } from './geometry.js';

const FIT_MAX = 12;
const CLOSEST = 6; // CSS pixels for a picture pixel, unless fitting needs more

export class View {
  /** @param board the element that clips @param world the element that the picture fills @param moved called after each change */
  constructor(board, world, moved) {
    Object.assign(this, { board, world, moved, width: 1, height: 1, scale: 1, x: 0, y: 0, fitted: true });
    new ResizeObserver(() => (this.fitted ? this.fit() : this.apply())).observe(board);
  }

  setSize(width, height) {
    Object.assign(this, { width, height });
    this.fit();
  }

  get fitScale() {
    const { clientWidth, clientHeight } = this.board;
    return Math.max(0.01, Math.min(clientWidth / this.width, clientHeight / this.height, FIT_MAX));
  }

  fit() {
    this.scale = this.fitScale;
    this.fitted = true;
    this.apply();
  }

  /** Zoom by a factor about a point of the board (its middle if none). */
  zoom(factor, cx = this.board.clientWidth / 2, cy = this.board.clientHeight / 2) {
    const least = this.fitScale;
    const scale = clamp(this.scale * factor, least, Math.max(CLOSEST, least * 8));
    const real = scale / this.scale;
    this.x = cx - (cx - this.x) * real;
    this.y = cy - (cy - this.y) * real;
    this.scale = scale;
    this.fitted = scale <= least * 1.001;
    this.apply();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.apply();
  }

  apply() {
    const { clientWidth, clientHeight } = this.board;
    const [width, height] = [this.width * this.scale, this.height * this.scale];
    this.x = within(this.x, width, clientWidth);
    this.y = within(this.y, height, clientHeight);
    this.world.style.width = `${width}px`;
    this.world.style.height = `${height}px`;
    this.world.style.transform = `translate(${this.x}px, ${this.y}px)`;
    this.board.classList.toggle('zoomed', !this.fitted);
    this.moved();
  }

  /** A place of the window in picture pixels. */
  toPicture({ clientX, clientY }) {
    const box = this.board.getBoundingClientRect();
    return { x: (clientX - box.left - this.x) / this.scale, y: (clientY - box.top - this.y) / this.scale };
  }

  /** A place of the picture on the board, in CSS pixels. */
  toBoard(x, y) {
    return { left: this.x + x * this.scale, top: this.y + y * this.scale };
  }

  /** The middle of what is seen, in picture pixels. */
  get middle() {
    const { clientWidth, clientHeight } = this.board;
    return { x: clamp((clientWidth / 2 - this.x) / this.scale, 0, this.width), y: clamp((clientHeight / 2 - this.y) / this.scale, 0, this.height) };
  }
}

/** A smaller picture stays in the middle, a larger one covers the board. */
const within = (offset, size, room) => (size <= room ? (room - size) / 2 : clamp(offset, room - size, 0));
