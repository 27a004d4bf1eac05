// The mask brush: strokes on a canvas of the picture's size; white is repainted. Undo keeps at most 96 MiB.
import { Undo } from './undo.js';

const TINT = [0xc8, 0x37, 0x2d];

export class Mask {
  /** @param canvas shown over the picture @param changed called with a data URI, or null for an empty mask @param tint RGB */
  constructor(canvas, cursor, changed, tint = TINT) {
    this.tint = tint;
    this.canvas = canvas;
    this.cursor = cursor;
    this.changed = changed;
    this.context = canvas.getContext('2d', { willReadFrequently: true });
    this.undo = new Undo(96 * 2 ** 20);
    this.size = 24;
    this.last = null;
    this.at = null;
    this.resets = 0;
  }

  /** An empty mask for a picture of this size. */
  reset(width, height) {
    this.resets += 1;
    this.canvas.width = width;
    this.canvas.height = height;
    this.undo.clear();
    this.last = null;
    this.at = { x: width / 2, y: height / 2 };
    this.size = Math.max(4, Math.round(Math.min(width, height) / 6));
  }

  tool(name) {
    const erase = name === 'erase';
    return {
      name,
      down: (p) => { this.keep(); this.last = p; this.stroke(p, p, erase); this.hover(p); },
      move: (p) => {
        if (!this.last) return;
        this.stroke(this.last, p, erase);
        this.last = p;
        this.hover(p);
      },
      hover: (p) => this.hover(p),
      up: () => { if (this.last) { this.last = null; this.tell(); } },
      cancel: () => { if (this.last) { this.last = null; this.restore(this.undo.back(this.image())); } this.hover(null); },
      key: (event) => this.key(event, erase),
    };
  }


  stroke(from, to, erase) {
    const c = this.context;
    c.globalCompositeOperation = erase ? 'destination-out' : 'source-over';
    c.strokeStyle = c.fillStyle = `rgb(${this.tint.join(' ')})`;
    c.lineWidth = this.size;
    c.lineCap = c.lineJoin = 'round';
    c.beginPath();
    if (from.x === to.x && from.y === to.y) {
      c.arc(to.x, to.y, this.size / 2, 0, Math.PI * 2);
      c.fill();
      return;
    }
    c.moveTo(from.x, from.y);
    c.lineTo(to.x, to.y);
    c.stroke();
  }

  /** Arrow keys move the brush, Enter dabs, brackets change its size. */
  key(event, erase) {
    const step = Math.max(1, this.size / (event.shiftKey ? 1 : 4));
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (move) {
      this.hover({
        x: Math.min(this.canvas.width, Math.max(0, this.at.x + move[0])),
        y: Math.min(this.canvas.height, Math.max(0, this.at.y + move[1])),
      });
    } else if (event.key === 'Enter') {
      this.keep();
      this.stroke(this.at, this.at, erase);
      this.tell();
    } else if (event.key === '[' || event.key === ']') this.setSize(this.size * (event.key === '[' ? 0.8 : 1.25));
    else return false;
    return true;
  }

  setSize(size) {
    this.size = Math.min(512, Math.max(1, Math.round(size)));
    this.hover(this.at);
    this.canvas.dispatchEvent(new CustomEvent('dq:size', { bubbles: true }));
  }

  hover(p) {
    if (p) this.at = p;
    this.cursor.style.display = p ? 'block' : 'none';
    if (!p) return;
    this.cursor.style.width = this.cursor.style.height = `${this.size}px`;
    this.cursor.style.transform = `translate(${p.x - this.size / 2}px, ${p.y - this.size / 2}px)`;
  }

  image() {
    return this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  keep() {
    this.undo.push(this.image());
  }

  restore(image) {
    if (!image) return;
    this.context.putImageData(image, 0, 0);
  }

  undoOne() {
    this.restore(this.undo.back(this.image()));
    this.tell();
  }

  redoOne() {
    this.restore(this.undo.forth(this.image()));
    this.tell();
  }

  clear() {
    this.keep();
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.tell();
  }

  invert() {
    this.keep();
    const image = this.image();
    for (let i = 0; i < image.data.length; i += 4) image.data.set([...this.tint, 255 - image.data[i + 3]], i);
    this.restore(image);
    this.tell();
  }

  /** Take a black and white picture as the mask, unless the mask is another picture's by the time it is there. */
  async load(address) {
    const { resets } = this;
    const picture = new Image();
    picture.src = address;
    await picture.decode();
    if (resets !== this.resets) return;
    const { width, height } = this.canvas;
    this.context.globalCompositeOperation = 'source-over';
    this.context.clearRect(0, 0, width, height);
    this.context.drawImage(picture, 0, 0, width, height);
    const image = this.image();
    for (let i = 0; i < image.data.length; i += 4) {
      const light = image.data[i];
      image.data.set([...this.tint, light], i);
    }
    this.restore(image);
    this.tell();
  }

  /** The mask as a PNG data URI, white on black, or null where nothing is painted. */
  export() {
    const { width, height } = this.canvas;
    const image = this.image();
    let any = false;
    for (let i = 0; i < image.data.length; i += 4) {
      const a = image.data[i + 3];
      any ||= a > 64; // an erased stroke leaves a faint rim of at most a quarter
      image.data[i] = image.data[i + 1] = image.data[i + 2] = a;
      image.data[i + 3] = 255;
    }
    if (!any) return null;
    const out = document.createElement('canvas');
    out.width = width;
    out.height = height;
    out.getContext('2d').putImageData(image, 0, 0);
    return out.toDataURL('image/png');
  }

  tell() {
    this.changed(this.export());
    this.canvas.dispatchEvent(new CustomEvent('dq:painted'));
  }
}
