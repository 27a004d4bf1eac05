// The regions of a Request: what they are, their cards in the form, undo and redo. Where they lie is kept in shares of the frame, so that they follow a picture of another size.
import { el, t, toast } from './base.js';
import { boxAround, copyOf, freshArea } from './areas.js';
import { RegionCard } from './regioncard.js';
import { choice } from './parts.js';
import { clearErrors } from './fields.js';
import { Undo } from './undo.js';

export const MAX = 12;
const MEMORY = 96 * 2 ** 20;
const FEATHER = 8;
const COLORS = [[42, 111, 151], [176, 96, 16], [61, 122, 65], [142, 68, 140], [190, 60, 50], [20, 124, 124], [110, 92, 200], [126, 110, 20], [196, 70, 122], [72, 96, 110], [120, 74, 44], [58, 134, 214]];
const ENGINES = ['auto', 'attention', 'latent'];

export class Regions {
  /** @param app {set(values), value, regionFrame(), addressOf(ref), showRegions(tool)} */
  constructor(app) {
    this.app = app;
    this.all = [];
    this.selected = null;
    this.engine = '';
    this.frame = { width: 512, height: 512 };
    this.past = new Undo(MEMORY);
    this.number = 0;
    this.watchers = new Set();
    this.build();
  }

  build() {
    const tool = (name) => el('button', { type: 'button', class: 'dq-act', t: `r.${name}`, 'data-region-tool': name, onclick: () => this.app.showRegions(`region-${name}`) });
    this.list = el('div', { class: 'dq-cards' });
    this.row = el('div', { class: 'dq-row' }, ...['box', 'lasso', 'brush'].map(tool));
    this.expert = el('details', { class: 'dq-expert' }, el('summary', { t: 'r.expert' }), el('div', {}));
    this.node = el('section', { class: 'dq-extra dq-region-section', id: 'f-regions', tAria: 'r.title' },
      el('h3', { t: 'r.title' }), el('p', { class: 'dq-tip', t: 'r.tip' }), this.list, this.row, this.expert);
    this.showEngine();
  }

  showEngine() {
    const set = (value) => { this.engine = value === 'auto' ? '' : value; this.keep(); };
    this.expert.lastChild.replaceChildren(choice('r.engine', { id: 'f-region_engine', options: ENGINES, value: this.engine || 'auto', set }));
  }

  setEngine(engine) {
    this.engine = engine;
    this.showEngine();
    this.keep();
  }

  relabel() {
    for (const region of this.all) region.card.relabel(this.all.indexOf(region));
    this.tell();
  }

  /** The regions as a Request asks for them, boxes in pixels of the frame. */
  asked() {
    return this.all.map((region) => ({
      prompt: region.prompt, negative_prompt: region.negative, box: region.box && this.pixels(region.box),
      mask: region.box ? null : region.uri ?? region.ref ?? null, weight: region.weight, feather_px: region.feather, control: region.control,
    }));
  }

  pixels(box) {
    const { width, height } = this.frame;
    const [left, top] = [Math.min(width - 1, Math.round(box.left * width)), Math.min(height - 1, Math.round(box.top * height))];
    return { left_px: left, top_px: top, right_px: Math.max(left + 1, Math.round(box.right * width)), bottom_px: Math.max(top + 1, Math.round(box.bottom * height)) };
  }

  keep() {
    this.app.set({ regions: this.asked(), engine: this.engine });
  }

  /** Follow the picture that regions are drawn on. */
  fit() {
    const { width, height } = this.app.regionFrame();
    if (width === this.frame.width && height === this.frame.height) return;
    this.frame = { width, height };
    this.tell();
  }

  /** Tell the form and the canvas of a change. */
  tell() {
    if (!this.all.includes(this.selected)) this.selected = null;
    this.keep();
    this.show();
  }

  /** Show what is there; nothing of the Request has changed. */
  show() {
    for (const region of this.all) region.card.refresh(this.all.indexOf(region));
    this.row.hidden = this.all.length >= MAX;
    this.expert.hidden = this.all.length === 0;
    for (const watcher of this.watchers) watcher();
  }

  select(region) {
    this.selected = region;
    this.show();
  }

  /** Where a region lies, in pixels of the frame; null where nothing is left of it. */
  boxOf(region) {
    const box = region.box ?? region.around;
    if (!box) return null;
    const { width, height } = this.frame;
    return { left: box.left * width, top: box.top * height, right: box.right * width, bottom: box.bottom * height };
  }

  shares({ left, top, right, bottom }) {
    const { width, height } = this.frame;
    return { left: left / width, top: top / height, right: right / width, bottom: bottom / height };
  }

  placeWords(region) {
    if (!region.box) return t(region.around ? 'r.place.mask' : 'r.place.none');
    const { left_px: left, top_px: top, right_px: right, bottom_px: bottom } = this.pixels(region.box);
    return t('r.place.box', { left, top, width: right - left, height: bottom - top });
  }

  // changes -----------------------------------------------------------------------------------------------------------
  snapshot() {
    const bytes = this.all.reduce((sum, { area }) => sum + (area ? area.canvas.width * area.canvas.height * 4 : 64), 64);
    return { data: { length: bytes }, all: this.all.map((region) => ({ ...region })), selected: this.selected?.id };
  }

  remember(before = this.snapshot()) {
    this.past.push(before);
    clearErrors();
  }

  /** Undo ('back') or redo ('forth') what was drawn; words and controls that were changed since stay. */
  step(way) {
    const found = this.past[way](this.snapshot());
    if (!found) return;
    const now = new Map(this.all.map((region) => [region.id, region]));
    this.all = found.all.map((old) => {
      const { prompt, negative, control } = now.get(old.id) ?? old;
      return Object.assign(now.get(old.id) ?? old.self, old, { prompt, negative, control });
    });
    this.selected = this.all.find(({ id }) => id === found.selected) ?? null;
    this.render();
  }

  /** A region at a box in pixels of the frame, or with a painted area; null where there are too many. */
  add({ box = null, area = null, more = {} }) {
    if (this.all.length >= MAX) {
      toast(t('r.full'));
      return null;
    }
    this.number += 1;
    const used = new Set(this.all.map(({ color }) => color));
    const color = area ? area.color : COLORS.findIndex((_, n) => !used.has(n));
    const region = { id: this.number, color, prompt: '', negative: null, weight: 1, feather: FEATHER, box: box && this.shares(box), area, around: null, uri: null, ref: null, control: null, ...more };
    region.self = region;
    region.card = new RegionCard(this, region);
    this.all.push(region);
    this.selected = region;
    return region;
  }

  tint(region) {
    return COLORS[region.color];
  }

  /** An empty area in the colour that the next region gets. */
  nextArea() {
    const used = new Set(this.all.map(({ color }) => color));
    const color = Math.max(0, COLORS.findIndex((_, n) => !used.has(n)));
    return Object.assign(freshArea(this.frame, COLORS[color]), { color });
  }

  /** The area of a region on a canvas of its own: what is drawn now does not change what undo keeps. */
  fork(region) {
    region.area = copyOf(region.area, this.frame, this.tint(region));
    return region.area;
  }

  /** An area has its new look: where it lies, and what is sent. */
  painted(region) {
    const box = boxAround(region.area, this.frame);
    region.around = box && this.shares(box);
    region.uri = region.area.export();
    region.ref = null;
  }

  remove(region) {
    this.remember();
    this.all.splice(this.all.indexOf(region), 1);
    this.selected = null;
    this.render();
  }

  setWords(region, prompt) {
    region.prompt = prompt;
    this.keep();
    this.show();
  }

  set(region, values) {
    Object.assign(region, values);
    this.keep();
  }

  render() {
    this.list.replaceChildren(...this.all.map((region, index) => region.card.build(index)));
    this.tell();
  }

  /** Put the regions of a Request here; `frame` is the picture that their boxes are meant for. */
  async setAll(regions, engine, frame) {
    this.frame = frame;
    this.selected = null;
    this.past.clear();
    this.engine = engine;
    for (const { card } of this.all) card.control.drop();
    this.all = [];
    for (const { prompt, negative_prompt: negative, box, mask, weight, feather_px: feather, control = null } of regions) {
      const place = box && { left: box.left_px, top: box.top_px, right: box.right_px, bottom: box.bottom_px };
      const area = box ? null : this.nextArea();
      this.add({ box: place, area, more: { prompt, negative, weight, feather, control, ref: mask } });
    }
    this.selected = null;
    this.expert.open = engine !== '';
    this.showEngine();
    this.render();
    await Promise.all(this.all.filter(({ area }) => area).map((region) => this.load(region)));
    this.show();
  }

  async load(region) {
    const { area, ref } = region;
    try {
      await area.load(this.app.addressOf(ref));
    } catch {
      toast(t('e.code.not_found'));
      return;
    }
    const box = boxAround(area, this.frame);
    region.around = box && this.shares(box);
  }
}
