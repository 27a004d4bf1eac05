// One control card: a ControlUnit with its picture or drawing, its map and its settings.
import { el, icon, iconButton, post, t } from './base.js';
import { frameFor } from './easel.js';
import { clearErrors, paintedSize } from './fields.js';
import { AreaPad, SketchPad } from './pads.js';
import { choice, setting, slider } from './parts.js';
import { PoseEditor } from './pose.js';
import { Slot } from './slot.js';

const GROUPS = ['line', 'block', 'pose', 'detail', 'own'];
const DRAWN = { pose: 'draw_pose', sketch: 'draw_sketch' };
const NO_KIND = { annotator: null, model: null, draw: null, drawn: false, params: [] };
const live = { on: true }; // whether sketches paint drafts: as it was left last time

export class Card {
  /** @param home Controls @param unit a ControlUnit as JSON @param chosen a model that a person chose stays; another follows the kind */
  constructor(home, unit, { chosen }) {
    const drawing = unit.annotator === 'none' && unit.image ? home.drawingOf(unit.image) : null;
    Object.assign(this, { home, unit, chosen, map: null, asking: 0, drawings: {} });
    this.kindKey = drawing ? DRAWN[drawing.kind] : unit.annotator;
    this.base = drawing?.base ?? null; // what is drawn over
    this.typeKey = ''; // found when the offers are known
  }

  /** The control type that narrows kinds and models; null for all of them. */
  get type() {
    return this.home.offers.types.find((type) => type.key === this.typeKey) ?? null;
  }

  get models() {
    return this.type?.models ?? this.home.offers.models;
  }

  /** What the studio says of the kind of map. */
  get kind() {
    return this.home.offers.kinds.find((kind) => kind.key === this.kindKey) ?? { ...NO_KIND, key: this.kindKey, annotator: this.unit.annotator, drawn: Object.values(DRAWN).includes(this.kindKey) };
  }

  /** The picture that is followed, or drawn over. */
  get picture() {
    return (this.kind.drawn ? this.base : this.unit.image) ?? this.home.app.startingPicture();
  }

  get isEmpty() {
    return (this.kind.drawn ? this.base : this.unit.image) === null;
  }

  /** The unit as it is asked for; a drawing that is not there is no "the starting picture is the map". */
  asked() {
    return { ...this.unit, image: this.kind.drawn ? this.unit.image ?? '' : this.unit.image };
  }

  /** @param index its place among the cards; null for one that stands alone @param prefix what ids begin with */
  build(index, prefix = `f-controls.${index}`) {
    const { unit } = this;
    const id = (name) => `${prefix}.${name}`;
    const number = index === null ? '' : ` ${index + 1}`;
    const set = (name) => (value) => this.change({ [name]: value });
    this.id = id;
    this.slot = new Slot({ id: id('image'), empty: 'c.picture', choose: (ref) => this.setPicture(ref), clear: () => this.setPicture(null) });
    this.mapButton = el('button', { type: 'button', class: 'dq-slot-face', onclick: () => this.showMap() });
    this.mapNote = el('p', { class: 'dq-wrong', role: 'alert', hidden: true });
    this.drawButton = el('button', { type: 'button', class: 'dq-act dq-draw', onclick: () => this.draw() });
    this.typeKey ||= this.typeOf(unit.control_type);
    if (this.type && !this.type.kinds.includes(this.kindKey)) this.typeKey = ''; // the unit keeps what it says
    this.typeField = this.types(id('control_type'));
    this.kindField = this.kinds(id('annotator'));
    this.model = el('select', { tAria: 'c.model' });
    this.model.addEventListener('change', () => { this.chosen = this.model.value !== ''; this.change({ model: this.model.value || this.fittest() }); this.refresh(); });
    this.modelField = el('label', { class: 'dq-field', id: id('model') }, el('span', { t: 'c.model' }), el('span', { class: 'dq-tip', t: 'c.model.tip' }), this.model);
    this.missing = el('p', { class: 'dq-hint' });
    this.settings = el('div', { class: 'dq-settings', id: id('params') });
    this.more = el('details', { class: 'dq-more' }, el('summary', { t: 'c.more' }), this.settings, this.area(id('mask')),
      slider('c.start', { id: id('start'), value: unit.start, set: set('start') }),
      slider('c.end', { id: id('end'), value: unit.end, set: set('end') }),
      choice('c.mode', { id: id('mode'), options: ['balanced', 'prompt', 'control'], value: unit.mode, set: set('mode') }),
      choice('c.resize', { id: id('resize_mode'), options: ['crop', 'fill', 'stretch'], value: unit.resize_mode, set: (value) => { this.change({ resize_mode: value }); this.forgetMap(); } }),
      this.modelField);
    this.node = el('div', { class: 'dq-card', id: prefix, role: 'group', 'aria-label': `${t('c.title')}${number}` },
      el('div', { class: 'dq-card-head' }, el('strong', {}, el('span', { t: 'c.title' }), number), el('span', { class: 'dq-spring' }),
        iconButton('close', 'c.remove', () => this.home.remove(this))),
      el('div', { class: 'dq-two' }, this.slot.node, el('div', { class: 'dq-slot' }, this.mapButton)),
      this.mapNote, this.drawButton,
      el('button', { type: 'button', class: 'dq-link', t: 'c.canvas', onclick: () => this.home.app.withCanvasPicture((ref) => this.setPicture(ref)) }),
      this.typeField, this.kindField, this.missing,
      slider('c.weight', { id: id('weight'), high: 2, value: unit.weight, set: set('weight') }),
      this.more);
    this.showSettings();
    this.refresh();
    return this.node;
  }

  /** The key of the control type for what a unit says its map is. */
  typeOf(map) {
    const found = map && this.home.offers.types.find((type) => type.key === map || type.maps.includes(map));
    return found ? found.key : '';
  }

  /** The control types that have something here, as A1111's buttons. */
  types(id) {
    const select = el('select', { tAria: 'c.type' }, el('option', { value: '', t: 'c.type.all' }),
      ...this.home.offers.types.map((type) => el('option', { value: type.key, t: `c.type.${type.key}` })));
    select.value = this.typeKey;
    select.addEventListener('change', () => this.setType(select.value));
    return el('label', { class: 'dq-field', id }, el('span', { t: 'c.type' }), select);
  }

  /** Another control type: its best kind of map where the one at hand is none of its, and its networks. */
  setType(key) {
    this.typeKey = key;
    this.chosen = false;
    this.change({ control_type: this.type?.maps[0] ?? null });
    if (this.type && !this.type.kinds.includes(this.kindKey)) this.setKind(this.type.kinds[0]);
    else this.follow();
    const before = this.kindField;
    this.kindField = this.kinds(this.id('annotator'));
    before.replaceWith(this.kindField);
    this.refresh();
  }

  /** The kinds of map, in groups; one that is not in the list (from a picture's settings) is added. */
  kinds(id) {
    const select = el('select', { tAria: 'c.kind' });
    const { type } = this;
    const kinds = this.home.offers.kinds.filter((kind) => !type || type.kinds.includes(kind.key));
    for (const group of GROUPS) {
      const own = kinds.filter((kind) => kind.group === group);
      if (own.length) select.append(el('optgroup', { tLabel: `c.group.${group}` }, ...own.map((kind) =>
        el('option', { value: kind.key, ...(kind.name ? { text: kind.name } : { t: `c.kind.${kind.key}` }) }))));
    }
    if (!kinds.some((kind) => kind.key === this.kindKey)) select.append(el('option', { value: this.kindKey, text: this.kindKey }));
    select.value = this.kindKey;
    select.addEventListener('change', () => this.setKind(select.value));
    this.select = select;
    this.tip = el('span', { class: 'dq-tip' });
    return el('label', { class: 'dq-field', id }, el('span', { t: 'c.kind' }), select, this.tip);
  }

  /** Where the unit acts: everywhere, or what is painted. */
  area(id) {
    this.areaImage = el('img', { class: 'dq-small', alt: '' });
    this.areaButton = el('button', { type: 'button', class: 'dq-act dq-area', onclick: () => this.paintArea() });
    this.areaClear = el('button', { type: 'button', class: 'dq-link', t: 'c.mask.clear', onclick: () => { this.change({ mask: null }); this.refresh(); } });
    return el('div', { class: 'dq-field', id, role: 'group', tAria: 'c.mask' }, el('span', { t: 'c.mask' }), el('span', { class: 'dq-tip', t: 'c.mask.tip' }),
      el('div', { class: 'dq-row' }, this.areaImage, this.areaButton, this.areaClear));
  }

  /** The settings of the annotator; one that stands at its default is not written into the Request. */
  showSettings() {
    const { annotator, params } = this.unit;
    this.settings.replaceChildren(...this.kind.params.map((info) => setting(annotator, info, {
      id: this.id(`params.${info.key}`), value: params[info.key],
      set: (value) => {
        const { [info.key]: _, ...others } = this.unit.params;
        this.change({ params: value === info.default ? others : { ...others, [info.key]: value } });
        if (this.map) this.forgetMap();
      },
    })));
  }

  /** The model that suits the kind of map, among those of the control type. */
  fittest() {
    const { model } = this.kind;
    if (!this.type) return model ?? '';
    return this.type.models.includes(model) ? model : this.type.models[0] ?? '';
  }

  change(values) {
    Object.assign(this.unit, values);
    this.home.keep();
  }

  /** Another kind of map: a photo stays the photo, a drawing waits for its kind to come back. */
  setKind(key) {
    const was = this.kind.drawn;
    const picture = was ? this.base : this.unit.image;
    if (was) this.drawings[this.kindKey] = this.unit.image;
    this.kindKey = key;
    this.base = this.kind.drawn ? picture : null;
    this.select.value = key;
    this.change({ annotator: this.kind.annotator, params: {}, image: this.kind.drawn ? this.drawings[key] ?? null : picture });
    this.follow();
    this.forgetMap();
    this.showSettings();
  }

  setPicture(ref) {
    clearErrors();
    if (this.kind.drawn) this.base = ref;
    else this.change({ image: ref });
    this.forgetMap();
  }

  /** Take the model that suits the kind of map, unless a person chose one that is still there. */
  follow() {
    if (this.chosen && this.home.offers.models.includes(this.unit.model)) return;
    this.chosen = false;
    this.change({ model: this.fittest() });
  }

  forgetMap() {
    this.map = null;
    this.asking += 1; // an answer on its way is for what stood here before
    this.mapButton.disabled = false;
    this.mapNote.hidden = true;
    this.refresh();
  }

  refresh() {
    const { unit, home, kind } = this;
    const { models } = this;
    const own = kind.drawn ? this.base : unit.image;
    const note = (kind.drawn && this.picture && 'c.under') || (own === null && this.picture && 's.source') || null;
    this.slot.empty = kind.drawn ? 'c.under.choose' : 'c.picture';
    this.slot.show(this.picture && home.app.addressOf(this.picture), { own: own !== null, note });
    const map = kind.drawn ? unit.image : this.map;
    const words = (this.mapButton.disabled && 'c.map.busy') || (kind.drawn && `c.draw.${kind.draw}`) || 'c.map.show';
    this.mapButton.replaceChildren(...(map
      ? [el('img', { src: home.app.addressOf(map), alt: t('c.map') })]
      : [icon(kind.drawn ? 'brush' : 'view'), el('span', { t: words })]));
    this.mapButton.setAttribute('aria-label', t(map && !kind.drawn ? 'c.map' : this.drawWords(words)));
    this.drawButton.hidden = !kind.draw;
    if (kind.draw) this.drawButton.textContent = t(this.drawWords(`c.draw.${kind.draw}`));
    const known = home.offers.kinds.find((each) => each.key === this.kindKey && !each.name);
    this.tip.dataset.t = known ? `c.kind.${this.kindKey}.tip` : '';
    this.tip.textContent = known ? t(this.tip.dataset.t) : '';
    const auto = this.fittest();
    const names = unit.model && !models.includes(unit.model) ? [...models, unit.model] : models;
    this.model.replaceChildren(el('option', { value: '', text: auto ? t('c.model.auto', { name: auto }) : t('c.model.none') }), ...names.map((name) => el('option', { value: name, text: name })));
    this.model.value = this.chosen ? unit.model : '';
    if (unit.annotator === 'none') this.tip.after(this.modelField);
    else this.more.append(this.modelField);
    this.missing.hidden = unit.model !== '';
    this.missing.textContent = t(home.offers.models.length ? 'c.missing.kind' : 'c.missing', { model: home.base });
    this.areaImage.hidden = this.areaClear.hidden = !unit.mask;
    if (unit.mask) this.areaImage.src = home.app.addressOf(unit.mask);
    this.areaButton.textContent = t(unit.mask ? 'c.mask.again' : 'c.mask.paint');
  }

  /** "Draw", or "go on drawing" where there is a drawing already. */
  drawWords(key) {
    return this.kind.drawn && this.unit.image && key.startsWith('c.draw.') ? `${key}.again` : key;
  }

  /** Have the map made and shown beside the picture; a map that is there is shown large on the canvas, a drawing is opened. */
  async showMap() {
    const { app } = this.home;
    if (this.kind.drawn) return this.draw();
    if (this.map) return app.showLoose({ ref: this.map, title: 'c.map', name: `danqing-map-${this.unit.annotator}` });
    if (!this.picture) return this.fail(t('c.map.need'));
    this.forgetMap();
    const asked = this.asking;
    this.mapButton.disabled = true;
    this.refresh();
    const { annotator, params, resolution_px: resolution, pixel_perfect: perfect, resize_mode: resize } = this.unit;
    const size = perfect ? paintedSize() : {};
    try {
      const { ref } = await post('annotate', { image: this.picture, annotator, params, resolution_px: resolution, resize_mode: resize, ...size });
      if (asked === this.asking) this.map = ref;
    } catch (error) {
      if (asked === this.asking) this.fail(error.text);
    }
    if (asked !== this.asking) return null;
    this.mapButton.disabled = false;
    return this.refresh();
  }

  /** Open the easel for a pose or a sketch; what comes out is the unit's map. */
  async draw() {
    clearErrors();
    const { kind, picture } = this;
    const { app } = this.home;
    const under = picture && app.addressOf(picture);
    const drawn = kind.drawn && this.unit.image ? this.unit.image : null;
    const drawing = drawn && this.home.drawingOf(drawn);
    const frame = drawing ? { width: drawing.width, height: drawing.height } : await frameFor(under);
    const before = { kindKey: this.kindKey, unit: { ...this.unit }, base: this.base, drawings: { ...this.drawings } };
    const done = (ref, made) => this.drew(ref, { ...made, base: kind.drawn ? this.base : picture });
    if (kind.draw === 'pose') new PoseEditor({ frame, under, drawing: drawing?.people ? drawing : null, done }).open();
    else new SketchPad({ frame, under, load: drawn && app.addressOf(drawn), app, live, done, try: (ref) => done(ref, { kind: 'sketch', ...frame }), undo: () => this.back(before) }).open();
  }

  /** A drawing is there: the unit follows it. */
  drew(ref, drawing) {
    const key = DRAWN[drawing.kind];
    this.home.keepDrawing(ref, drawing);
    if (this.type && !this.type.kinds.includes(key)) this.setType('');
    if (this.kindKey !== key) this.setKind(key);
    this.change({ image: ref });
    this.refresh();
  }

  /** As it was before a sketch that was thrown away. */
  back({ kindKey, unit, base, drawings }) {
    if (this.kindKey !== kindKey) this.setKind(kindKey);
    Object.assign(this, { base, drawings });
    this.change(unit);
    this.refresh();
  }

  async paintArea() {
    const { app } = this.home;
    const shown = (this.kind.drawn && this.unit.image) || this.picture;
    const under = shown && app.addressOf(shown);
    const { mask } = this.unit;
    new AreaPad({ frame: await frameFor(under), under, load: mask && app.addressOf(mask), done: (ref) => { this.change({ mask: ref }); this.refresh(); } }).open();
  }

  fail(text) {
    this.mapNote.textContent = text;
    this.mapNote.hidden = false;
  }
}
