// One picture of a set, large: the part that the trainer is shown, drawn with the mouse, a finger or the arrow keys.
import { el, t } from '../canvas/base.js';
import { get, patch } from '../projects/api.js';
import { check, field, sheet } from '../projects/sheets.js';
import { addressOf, setPath } from './api.js';
import { Sides } from './sides.js';

const LEAST_PX = 16;
const EDGE = 0.09; // share of the box at each side that pulls the side

/** Choose the crop, mask, map, repeats and kind of a picture. @param kind of the set @returns whether it was changed */
export async function cropSheet(set, row, kind) {
  const { picture, image } = row;
  const box = new CropBox(picture, addressOf(image));
  const sides = new Sides(set, row, kind, (now) => { looked = true; box.cover(now.mask && addressOf(now.mask)); });
  const repeats = el('input', { type: 'number', min: '0', max: '10000', step: '1', name: 'repeats', inputmode: 'numeric' });
  repeats.value = String(picture.repeats);
  const reg = check('tr.regularisation.this', picture.regularisation, { name: 'regularisation' });
  const path = setPath(set, '/pictures');
  const look = async (way) => {
    await patch(path, { changes: way === 'whole' ? { whole: true } : { crop_way: way, ...(way === 'centre' ? { aspect: 1 } : {}) }, files: [picture.file] });
    const found = await get(setPath(set, `/pictures/${encodeURIComponent(picture.file)}`));
    looked = true;
    box.set(found.picture.crop);
  };
  let looked = false;
  const ways = el('div', { class: 'dp-row' }, ...['subject', 'tight', 'centre', 'whole'].map((way) => el('button', { type: 'button', class: 'dq-act', t: `tr.crop.${way === 'subject' ? 'find' : way}`, 'data-way': way, onclick: () => look(way).catch((error) => box.say(error.text)) })));
  const send = async () => {
    const crop = box.value();
    await patch(path, { changes: { ...(crop ? { crop } : { whole: true }), repeats: Number(repeats.value), regularisation: reg.box.checked }, files: [picture.file] });
    return true;
  };
  box.cover(row.mask && addressOf(row.mask));
  const done = await sheet({ title: 'tr.crop.title', wide: true, send }, el('p', { class: 'dq-tip', text: `${picture.file} · ${picture.width_px} × ${picture.height_px}` }), box.node, ways,
    el('p', { class: 'dq-tip', t: 'tr.crop.tip' }), sides.node, el('div', { class: 'dp-pair' }, field('tr.repeats', repeats, { tip: true }), reg.node));
  return Boolean(done) || looked;
}

class CropBox {
  constructor(picture, address) {
    this.width = picture.width_px;
    this.height = picture.height_px;
    this.image = el('img', { src: address, alt: '', draggable: 'false' });
    this.mark = el('div', { class: 'dt-crop', tabindex: '0', role: 'group', tAria: 'tr.crop.box' });
    this.words = el('p', { class: 'dq-tip', role: 'status' });
    this.veil = el('img', { class: 'dt-veil', alt: '', draggable: 'false', hidden: true });
    this.frame = el('div', { class: 'dt-crop-frame' }, this.image, this.veil, this.mark);
    this.node = el('div', { class: 'dt-cropper' }, this.frame, this.words);
    this.frame.addEventListener('pointerdown', (event) => this.press(event));
    this.mark.addEventListener('keydown', (event) => this.key(event));
    this.set(picture.crop);
  }

  set(crop) {
    this.box = crop ? [crop.left_px, crop.top_px, crop.right_px, crop.bottom_px] : [0, 0, this.width, this.height];
    this.draw();
  }

  /** Darken what a mask leaves out. @param address of the mask, or null */
  cover(address) {
    this.veil.hidden = !address;
    if (address) this.veil.src = address;
  }

  /** The crop, or null for the whole picture. */
  value() {
    const [left, top, right, bottom] = this.box;
    if (left === 0 && top === 0 && right === this.width && bottom === this.height) return null;
    return { left_px: left, top_px: top, right_px: right, bottom_px: bottom };
  }

  draw() {
    const [left, top, right, bottom] = this.box;
    const percent = (value, whole) => `${(value / whole) * 100}%`;
    Object.assign(this.mark.style, { left: percent(left, this.width), top: percent(top, this.height), width: percent(right - left, this.width), height: percent(bottom - top, this.height) });
    this.words.textContent = t('tr.crop.size', { width: right - left, height: bottom - top });
  }

  say(text) {
    this.words.textContent = text;
  }

  place(event) {
    const frame = this.frame.getBoundingClientRect();
    const inside = (value, most) => Math.round(Math.min(1, Math.max(0, value)) * most);
    return [inside((event.clientX - frame.left) / frame.width, this.width), inside((event.clientY - frame.top) / frame.height, this.height)];
  }

  /** Which sides a press takes hold of: those it is near to, all of them in the middle, a new box outside. */
  hold([x, y]) {
    const [left, top, right, bottom] = this.box;
    const near = [(right - left) * EDGE + this.width * 0.015, (bottom - top) * EDGE + this.height * 0.015];
    const sides = [Math.abs(x - left) < near[0], Math.abs(y - top) < near[1], Math.abs(x - right) < near[0], Math.abs(y - bottom) < near[1]];
    const within = x > left - near[0] && x < right + near[0] && y > top - near[1] && y < bottom + near[1];
    if (!within) return null;
    const whole = this.value() === null;
    return sides.some(Boolean) || whole ? (whole && !sides.some(Boolean) ? null : sides) : [true, true, true, true];
  }

  press(event) {
    event.preventDefault();
    this.mark.focus();
    const from = this.place(event);
    const held = this.hold(from);
    const before = [...this.box];
    const move = (now) => {
      const to = this.place(now);
      const by = [to[0] - from[0], to[1] - from[1]];
      if (held === null) this.put([Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])]);
      else if (held.every(Boolean)) this.shift(before, by);
      else this.put(before.map((value, i) => value + (held[i] ? by[i % 2] : 0)));
    };
    const up = () => { removeEventListener('pointermove', move); removeEventListener('pointerup', up); removeEventListener('pointercancel', up); };
    addEventListener('pointermove', move);
    addEventListener('pointerup', up);
    addEventListener('pointercancel', up);
  }

  shift([left, top, right, bottom], [dx, dy]) {
    const x = Math.min(this.width - right, Math.max(-left, dx));
    const y = Math.min(this.height - bottom, Math.max(-top, dy));
    this.put([left + x, top + y, right + x, bottom + y]);
  }

  put([left, top, right, bottom]) {
    const within = (value, most) => Math.min(most, Math.max(0, Math.round(value)));
    const next = [within(left, this.width), within(top, this.height), within(right, this.width), within(bottom, this.height)];
    const least = [Math.min(LEAST_PX, this.width), Math.min(LEAST_PX, this.height)];
    if (next[2] - next[0] < least[0] || next[3] - next[1] < least[1]) return;
    this.box = next;
    this.draw();
  }

  /** Arrows move the box, with Shift they pull its right and lower side. */
  key(event) {
    const step = Math.max(1, Math.round(Math.min(this.width, this.height) / 50));
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (!by) return;
    event.preventDefault();
    const [left, top, right, bottom] = this.box;
    if (event.shiftKey) this.put([left, top, right + by[0], bottom + by[1]]);
    else this.shift(this.box, by);
  }
}
