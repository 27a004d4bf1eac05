// The version tree: parents above their children (left of them on a phone), lines between them, a walk by keys.
import { el, t } from '../canvas/base.js';
import { thumbOf } from './api.js';
import { sign } from './icons.js';

const NODE = 72;
const STEP = { deep: 122, wide: 88 }; // pixels from one to the next, along and across the tree, where it grows down
const FLAT = { deep: 100, wide: 112 }; // where it grows to the right
const SVG = 'http://www.w3.org/2000/svg';

/**
 * Places in a grid: a first child stands straight below its parent, each other one beside its elder siblings, as near as
 * what is below them all allows; so lines never cross. @returns Map of id → {lane, depth}
 */
export function layOut(root, versions) {
  // of the tree below a node, at lane 0: its places, and the first and last lane of each depth
  const below = (id) => {
    const places = [[id, 0, 0]];
    const [first, last] = [[0], [0]];
    let beside = 0;
    versions.get(id).children.forEach((child, i) => {
      const own = below(child);
      let lane = i === 0 ? 0 : beside + 1;
      own.first.forEach((left, k) => { if (last[k + 1] !== undefined) lane = Math.max(lane, last[k + 1] + 1 - left); });
      beside = lane;
      for (const [node, at, depth] of own.places) places.push([node, at + lane, depth + 1]);
      own.last.forEach((right, k) => { first[k + 1] ??= own.first[k] + lane; last[k + 1] = right + lane; });
    });
    return { places, first, last };
  };
  return new Map(below(root).places.map(([id, lane, depth]) => [id, { lane, depth }]));
}

/** A line from a parent to a child: straight on, or round two corners. */
function line(from, to, flat) {
  const path = document.createElementNS(SVG, 'path');
  const [x0, y0, x1, y1] = [from.x, from.y, to.x, to.y];
  const bend = 8;
  if (flat) {
    const middle = x1 - 14;
    path.setAttribute('d', y0 === y1 ? `M${x0} ${y0}H${x1}` : `M${x0} ${y0}H${middle - bend}q${bend} 0 ${bend} ${bend}V${y1 - bend}q0 ${bend} ${bend} ${bend}H${x1}`);
  } else {
    const middle = y1 - 12;
    path.setAttribute('d', x0 === x1 ? `M${x0} ${y0}V${y1}` : `M${x0} ${y0}V${middle - bend}q0 ${bend} ${bend} ${bend}H${x1 - bend}q${bend} 0 ${bend} ${bend}V${y1}`);
  }
  return path;
}

export class Tree {
  /** @param choose(id) hears which version is looked at; @param narrow a MediaQueryList: the tree grows to the right while it matches */
  constructor(choose, narrow) {
    this.choose = choose;
    this.narrow = narrow;
    this.versions = new Map();
    this.roots = [];
    this.chosen = null;
    this.nodes = new Map();
    this.node = el('div', { class: 'dp-tree', role: 'tree', tAria: 'p.tree' });
    this.node.addEventListener('keydown', (event) => this.key(event));
    this.turned = () => this.draw();
    narrow.addEventListener('change', this.turned);
  }

  end() {
    this.narrow.removeEventListener('change', this.turned);
  }

  show({ versions, roots }, chosen) {
    this.versions = new Map(versions.map((version) => [version.record, version]));
    this.roots = roots;
    this.chosen = chosen;
    this.draw();
  }

  draw() {
    const held = this.node.contains(document.activeElement);
    this.nodes = new Map();
    this.node.classList.toggle('flat', this.narrow.matches);
    this.node.replaceChildren(...this.roots.map((root, i) => this.block(root, i)));
    this.mark(this.chosen, held);
  }

  block(root, index) {
    const flat = this.narrow.matches;
    const step = flat ? FLAT : STEP;
    const places = layOut(root, this.versions);
    const at = ({ lane, depth }) => (flat ? { x: depth * step.deep, y: lane * step.wide } : { x: lane * step.wide, y: depth * step.deep });
    const [lanes, depths] = ['lane', 'depth'].map((name) => Math.max(...[...places.values()].map((place) => place[name])) + 1);
    const [width, height] = flat ? [depths * step.deep, lanes * step.wide] : [lanes * step.wide, depths * step.deep];
    const lines = document.createElementNS(SVG, 'svg');
    for (const [name, value] of [['width', width], ['height', height], ['aria-hidden', 'true']]) lines.setAttribute(name, value);
    const block = el('div', { class: 'dp-block', role: 'group' }, lines);
    block.style.width = `${width}px`;
    block.style.height = `${height}px`;
    for (const [id, place] of places) {
      const version = this.versions.get(id);
      const own = at(place);
      const tile = this.tile(version, index);
      tile.style.left = `${own.x}px`;
      tile.style.top = `${own.y}px`;
      this.nodes.set(id, tile);
      block.append(tile);
      if (!places.has(version.parent)) continue;
      const from = at(places.get(version.parent));
      lines.append(flat
        ? line({ x: from.x + NODE + 4, y: from.y + NODE / 2 }, { x: own.x, y: own.y + NODE / 2 }, true)
        : line({ x: from.x + NODE / 2 + 2, y: from.y + NODE + (this.versions.get(version.parent).labels.length ? 36 : 23) }, { x: own.x + NODE / 2 + 2, y: own.y }, false));
    }
    return block;
  }

  tile(version, index) {
    const { record, number, prompt, starred, approved, picked, open_suggestions: open, labels, note } = version;
    const name = t('p.version', { number });
    const facts = [version.current && t('p.current'), starred && t('p.starred'), approved && t('p.approved'), picked && t('p.picked'), open > 0 && t('p.open', { count: open }), ...labels];
    const siblings = version.parent ? this.versions.get(version.parent)?.children ?? [record] : this.roots;
    return el('div', {
      class: `dp-node${version.current ? ' current' : ''}`, role: 'treeitem', tabindex: '-1', 'data-record': record,
      'aria-level': version.depth + 1, 'aria-setsize': siblings.length, 'aria-posinset': version.parent ? siblings.indexOf(record) + 1 : index + 1,
      'aria-label': [name, ...facts.filter(Boolean), prompt].join(', '), title: [prompt, note].filter(Boolean).join('\n'), onclick: () => this.choose(record),
    },
      el('span', { class: 'dp-thumb' }, el('img', { src: thumbOf(record), alt: '', draggable: 'false', loading: 'lazy' }),
        open > 0 ? el('span', { class: 'dp-badge', text: String(open) }) : null),
      el('span', { class: 'dp-node-line' }, el('span', { class: 'dp-number', text: String(number) }),
        version.current ? sign('current') : null, starred ? sign('starred') : null, picked && !approved ? sign('pick') : null, approved ? el('span', { class: 'dp-ok-sign', text: '✓' }) : null),
      labels.length ? el('span', { class: 'dp-node-label', text: labels.join(', ') }) : null);
  }

  /** Another version is looked at. */
  mark(id, focus = false) {
    this.chosen = id;
    const first = this.nodes.has(id) ? id : this.roots[0];
    for (const [record, node] of this.nodes) {
      node.setAttribute('aria-selected', String(record === id));
      node.tabIndex = record === first ? 0 : -1;
    }
    const node = this.nodes.get(id);
    if (focus) node?.focus({ preventScroll: true });
    if (node) this.reveal(node);
  }

  /** Bring a node into sight without moving the page. */
  reveal(node) {
    const [own, box] = [node.getBoundingClientRect(), this.node.getBoundingClientRect()];
    const over = (low, high, from, to) => (low < from ? low - from - 8 : high > to ? high - to + 8 : 0);
    this.node.scrollLeft += over(own.left, own.right, box.left, box.right);
    this.node.scrollTop += over(own.top, own.bottom, box.top, box.bottom);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const version = this.versions.get(event.target.dataset?.record);
    if (!version) return;
    const siblings = version.parent ? this.versions.get(version.parent).children : this.roots;
    const beside = (by) => siblings[siblings.indexOf(version.record) + by];
    const turn = { ArrowUp: 'ArrowLeft', ArrowLeft: 'ArrowUp', ArrowDown: 'ArrowRight', ArrowRight: 'ArrowDown' };
    const key = this.narrow.matches ? turn[event.key] ?? event.key : event.key;
    const ids = [...this.nodes.keys()];
    const to = { ArrowUp: () => version.parent, ArrowDown: () => version.children[0], ArrowLeft: () => beside(-1), ArrowRight: () => beside(1), Home: () => ids[0], End: () => ids.at(-1) }[key];
    if (!to) return;
    event.preventDefault();
    const id = to();
    if (!id) return;
    this.choose(id);
    this.mark(id, true);
  }
}
