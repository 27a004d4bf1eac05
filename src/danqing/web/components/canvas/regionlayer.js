// What is seen of regions on the board: boxes and areas with their words, handles of the chosen one, guides, the line of a lasso.
import { el, t } from './base.js';
import { HANDLES, handleAt } from './boxes.js';

export class RegionLayer {
  /** @param regions Regions @param world the element of the picture's size */
  constructor(regions, world) {
    this.regions = regions;
    this.marks = el('div', { class: 'dq-region-marks' });
    this.line = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    this.line.classList.add('dq-layer');
    this.cursor = el('div', { class: 'dq-cursor' });
    this.node = el('div', { class: 'dq-regions', hidden: true }, this.marks, this.line);
    world.append(this.node, this.cursor);
  }

  /** @param live {box: of the chosen region while it is held, rubber: a box that is being drawn, guides} */
  draw({ box = null, rubber = null, guides = { x: [], y: [] } } = {}) {
    const { regions } = this;
    const shown = regions.all.flatMap((region, index) => {
      const chosen = region === regions.selected;
      const place = (chosen && box) || regions.boxOf(region);
      const area = region.area && !(chosen && box) ? region.area.canvas : null;
      return [area, place && this.mark(region, index, place, chosen)];
    });
    this.marks.replaceChildren(...shown.filter(Boolean), rubber ? this.frame(rubber, 'dq-region rubber') : '', ...this.lines(guides));
  }

  frame(box, name) {
    const node = el('div', { class: name });
    this.put(node, box);
    return node;
  }

  put(node, { left, top, right, bottom }) {
    const { width, height } = this.regions.frame;
    node.style.left = `${(left / width) * 100}%`;
    node.style.top = `${(top / height) * 100}%`;
    node.style.width = `${((right - left) / width) * 100}%`;
    node.style.height = `${((bottom - top) / height) * 100}%`;
  }

  mark(region, index, box, chosen) {
    const node = this.frame(box, `dq-region${region.area ? ' area' : ''}${chosen ? ' selected' : ''}`);
    node.style.setProperty('--c', `rgb(${this.regions.tint(region).join(' ')})`);
    node.dataset.index = String(index);
    const words = region.prompt.trim() || t('r.prompt.example');
    node.append(el('span', { class: `dq-region-tag${region.prompt.trim() ? '' : ' open'}`, text: `${index + 1} ${words}` }));
    if (chosen) node.append(...Object.keys(HANDLES).map((name) => this.handle(name, box)));
    return node;
  }

  handle(name, box) {
    const at = handleAt(box, name);
    const node = el('i', { class: 'dq-handle', 'data-handle': name });
    node.style.left = `${((at.x - box.left) / Math.max(1e-9, box.right - box.left)) * 100}%`;
    node.style.top = `${((at.y - box.top) / Math.max(1e-9, box.bottom - box.top)) * 100}%`;
    return node;
  }

  lines({ x, y }) {
    const { width, height } = this.regions.frame;
    const line = (axis, at) => {
      const node = el('div', { class: `dq-guide ${axis}` });
      node.style[axis === 'x' ? 'left' : 'top'] = `${at * 100}%`;
      return node;
    };
    return [...x.map((at) => line('x', at / width)), ...y.map((at) => line('y', at / height))];
  }

  /** The line that a lasso has drawn so far; none for fewer than two places. */
  lasso(places) {
    const { width, height } = this.regions.frame;
    this.line.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.line.setAttribute('preserveAspectRatio', 'none');
    this.line.innerHTML = places.length > 1 ? `<polygon class="dq-lasso" points="${places.map(({ x, y }) => `${x},${y}`).join(' ')}"/>` : '';
  }

  brush(place, size) {
    this.cursor.style.display = place ? 'block' : 'none';
    if (!place) return;
    this.cursor.style.width = this.cursor.style.height = `${size}px`;
    this.cursor.style.transform = `translate(${place.x - size / 2}px, ${place.y - size / 2}px)`;
  }
}
