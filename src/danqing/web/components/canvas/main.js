// The stage: puts canvas, progress, history, details and dropping together, and speaks with Python.
import { ask, el, language, onLanguage, relabel, settle, t, toast, type, url } from './base.js';
import { Board } from './board.js';
import { Controls } from './controls.js';
import { Describe } from './describe.js';
import { Details } from './details.js';
import { Drop } from './drop.js';
import { Loose } from './enlarge.js';
import { arrival, clearErrors, foldSections, nearestRatio, showError, tidyForm, unfold } from './fields.js';
import { History } from './history.js';
import { Watch } from './job.js';
import { Likes } from './likes.js';
import { Networks } from './networks.js';

const BRIEFS = [1, 2, 3, 4, 5, 6];

class Stage {
  constructor({ element, trigger, props }) {
    this.trigger = trigger;
    this.props = props;
    this.modeNow = 'txt2img';
    this.margins = { left: 0, right: 0, top: 0, bottom: 0 };
    this.tiles = [];
    this.record = null;
    this.view = 'empty';
    this.failure = null;
    this.board = new Board(this);
    this.watch = new Watch(this.jobEvents());
    this.history = new History(this);
    this.details = new Details(this);
    this.loose = new Loose(this);
    this.controls = new Controls(this);
    this.likes = new Likes(this);
    this.describe = new Describe(this);
    this.networks = new Networks();
    this.drop = new Drop(this);
    this.kept = el('div', { class: 'dq-kept', hidden: true });
    const canvas = el('section', { class: 'dq-canvas', tAria: 's.canvas' },
      this.board.toolbar, this.board.board, this.watch.node, this.details.bar, this.loose.bar, this.details.panel);
    element.querySelector('.dq-stage-root').append(canvas, this.history.node);
    document.getElementById('dq-paint')?.closest('.dq-actions')?.after(this.kept);
    arrival('#dq-controls').then((place) => place.append(this.controls.node, this.likes.node));
    onLanguage((tag) => { this.set({ language: tag }); this.relabel(); });
    this.set({ language: language() });
    this.relabel();
    this.history.load();
    this.controls.load();
    this.resume();
  }

  get value() {
    return this.props.value;
  }

  set(values) {
    this.props.value = { ...this.value, ...values };
    this.trigger('change');
  }

  relabel() {
    relabel(document.querySelector('.dq-stage-root'));
    for (const node of [this.drop.node, this.controls.node, this.likes.node]) relabel(node);
    for (const part of [this.history, this.details, this.controls, this.likes, this.describe, this.networks]) part.relabel();
    this.watch.show();
    this.showKept();
    this.draw();
  }

  // what the board shows ------------------------------------------------------------------------------------------
  hasGrid() {
    return this.tiles.length > 1;
  }

  get hasResult() {
    return this.tiles.length > 0 || this.record !== null || this.failure !== null;
  }

  /** Go to a view: 'source', 'result' (the last job), 'record', 'loose' (no Record) or 'empty'. */
  show(view) {
    this.view = view;
    this.loose.show(null);
    if (view === 'result' && !this.watch.id && this.tiles.length === 1 && this.tiles[0].id) {
      this.openRecord(this.tiles[0].id);
      return;
    }
    if (view !== 'record') {
      this.record = null;
      this.details.show(null);
      this.history.mark(null);
    }
    this.draw();
  }

  draw() {
    const starts = this.modeNow !== 'txt2img';
    const { board, value } = this;
    board.sides.hidden = !(starts && this.hasResult);
    for (const button of board.sides.children) {
      button.setAttribute('aria-pressed', String((button.dataset.view === 'source') === (this.view === 'source')));
    }
    board.toolbar.classList.toggle('source', this.view === 'source' && value.image !== null);
    if (this.view === 'record' && this.record) return this.drawRecord();
    if (this.view === 'loose') return this.drawLoose();
    if (this.view === 'result') return this.drawResult();
    if (starts) return this.drawSource();
    return board.showPanel(...this.emptyPanel());
  }

  drawRecord() {
    const { id, prompt, width_px: width, height_px: height } = this.record;
    this.board.showPicture(url(`web/records/${id}/picture`), { alt: prompt, width, height });
  }

  drawLoose() {
    const { ref, title, width_px: width = 0, height_px: height = 0 } = this.loose.loose;
    this.board.showPicture(this.addressOf(ref), { alt: t(title), width, height });
  }

  drawResult() {
    if (this.failure) return this.board.showPanel(...this.failurePanel());
    if (this.tiles.length > 1) return this.board.showGrid(this.tiles);
    const [tile] = this.tiles;
    if (tile?.address) return this.board.showPicture(tile.address, { alt: tile.alt, width: this.width, height: this.height });
    return this.board.showPanel(el('div', { class: 'dq-wash', 'aria-hidden': 'true' }));
  }

  drawSource() {
    const { image } = this.value;
    if (!image) {
      return this.board.showPanel(
        el('h2', { t: 's.need' }), el('p', { t: 's.need.hint' }),
        el('button', { type: 'button', class: 'dq-act', t: 'choose', onclick: () => this.drop.start.click() }));
    }
    const { width_px: width, height_px: height } = image;
    const masking = this.modeNow === 'inpaint';
    const margins = this.modeNow === 'outpaint' ? this.margins : null;
    return this.board.showPicture(this.addressOf(image.ref), { width, height, masking, margins });
  }

  emptyPanel() {
    const briefs = BRIEFS.map((number) =>
      el('button', { type: 'button', class: 'dq-brief', t: `s.brief.${number}`, onclick: () => type('#f-prompt textarea', t(`s.brief.${number}`)) }));
    return [el('img', { class: 'dq-hills', src: url('web/static/hills.svg'), alt: '', width: '240', height: '92' }), el('h2', { t: 's.empty.title' }), el('p', { t: 's.empty.text' }), el('div', { class: 'dq-briefs' }, ...briefs), el('p', { class: 'dq-note', t: 's.empty.drop' })];
  }

  failurePanel() {
    const { text, original } = this.failure;
    const more = original && original !== text ? el('details', {}, el('summary', { t: 's.original' }), el('p', { lang: 'en', text: original })) : null;
    return [el('h2', { t: 's.failed' }), el('p', { role: 'alert', text }), ...(more ? [more] : []),
      el('button', { type: 'button', class: 'dq-act', t: 's.again', onclick: () => document.getElementById('dq-paint').click() })];
  }

  addressOf(ref) {
    const [kind, name] = ref.split(':');
    return url(kind === 'record' ? `web/records/${name}/picture` : `web/uploads/${name}`);
  }

  // jobs ----------------------------------------------------------------------------------------------------------
  jobEvents() {
    return {
      preview: (index, address) => this.tile(index, { address }),
      record: (index, id) => {
        this.tile(index, { address: url(`web/records/${id}/picture`), id });
        this.history.add(id);
      },
      finished: (state, error) => this.finished(state, error),
    };
  }

  begin(id, count, size) {
    [this.width, this.height] = size;
    clearErrors();
    this.failure = null;
    const prompt = document.querySelector('#f-prompt textarea')?.value ?? '';
    this.tiles = Array.from({ length: count }, () => ({ address: null, id: null, alt: prompt }));
    document.body.dataset.job = id;
    this.watch.start(id, count);
    this.show('result');
    if (matchMedia('(max-width: 760px)').matches) this.board.board.scrollIntoView({ behavior: 'smooth', block: 'center' });
  }

  tile(index, values) {
    if (!this.tiles[index]) return;
    if (this.tiles[index].id && !values.id) return;
    Object.assign(this.tiles[index], values);
    if (this.view === 'result') this.drawResult();
  }

  finished(state, error) {
    if (state === 'failed') {
      this.failure = error ?? { text: t('e.code.error'), original: '' };
      if (this.failure.field) showError(this.failure);
    }
    if (state === 'cancelled') toast(t('s.cancelled'));
    this.tiles = this.tiles.filter((tile) => tile.id !== null);
    if (this.view !== 'result') return;
    if (this.tiles.length || this.failure) this.show('result');
    else this.show(this.modeNow === 'txt2img' ? 'empty' : 'source');
  }

  /** After a reload: go on watching what is still being painted. */
  async resume() {
    try {
      const { jobs } = await ask('status');
      if (jobs.length && !this.watch.id) this.begin(jobs[0].id, jobs[0].count, jobs[0].size);
    } catch {
      // the header says that the studio does not answer
    }
  }

  // records -------------------------------------------------------------------------------------------------------
  async openRecord(id) {
    try {
      this.record = await ask(`records/${id}`);
    } catch (error) {
      toast(error.text);
      return;
    }
    this.loose.show(null);
    this.view = 'record';
    this.details.show(this.record);
    this.history.mark(id);
    this.draw();
  }

  /** Show a picture that is no Record: {ref, title, name}, and where the way back leads. */
  showLoose(loose) {
    const back = this.view === 'loose' ? this.before : { view: this.view, id: this.record?.id };
    this.before = loose.record ? { view: 'record', id: loose.record } : back;
    this.view = 'loose';
    this.record = null;
    this.details.show(null);
    this.history.mark(null);
    this.loose.show(loose);
    this.draw();
  }

  leaveLoose() {
    if (this.before.view === 'record') this.openRecord(this.before.id);
    else this.show(this.before.view);
  }

  // pictures for the form -------------------------------------------------------------------------------------------
  /** The picture that stands on the canvas now; without one a person is told. */
  withCanvasPicture(take) {
    const shown = { record: () => `record:${this.record.id}`, loose: () => this.loose.loose.ref, source: () => this.value.image?.ref,
      result: () => this.tiles[0]?.id && `record:${this.tiles[0].id}` }[this.view]?.();
    if (shown) take(shown);
    else toast(t('s.canvas.none'));
  }

  startingPicture() {
    return this.modeNow === 'txt2img' ? null : this.value.image?.ref ?? null;
  }

  /** Whether a dropped picture can go there. */
  offers(purpose) {
    return { control: this.controls.available, like: this.likes.available }[purpose] ?? true;
  }

  take(purpose, ref) {
    ({ control: this.controls, like: this.likes, describe: this.describe })[purpose].take(ref);
  }

  removed(id, next) {
    this.history.remove(id);
    this.tiles = this.tiles.filter((tile) => tile.id !== id);
    if (next) this.openRecord(next);
    else this.show(this.modeNow === 'txt2img' ? 'empty' : 'source');
  }

  send(source, to) {
    this.trigger('refill', { source, to });
  }

  /** Have a small, quick picture of what stands in the form painted; `onDraft` hears of it. */
  requestDraft() {
    this.trigger('draft', {});
  }

  /** Put the seed of the picture shown, or else of the newest one, into the form. */
  async reuseSeed() {
    const id = this.record?.id ?? this.history.newest;
    if (!id) return;
    try {
      this.setSeed((this.record ?? (await ask(`records/${id}`))).seed);
    } catch (error) {
      toast(error.text);
    }
  }

  async setSeed(text) {
    await unfold('sampling', 'seed');
    type('#f-seed input, #f-seed textarea', text);
  }

  // the starting picture and its mask -------------------------------------------------------------------------------
  startFrom(picture) {
    this.setPicture(picture);
    this.trigger('picture', { width_px: picture.width_px, height_px: picture.height_px });
  }

  async setPicture(image, mask = null) {
    clearErrors();
    this.set({ image, mask: null });
    this.controls.refresh();
    if (image) this.board.mask.reset(image.width_px, image.height_px);
    if (image && mask) await this.board.mask.load(this.addressOf(mask)).catch(() => toast(t('e.code.not_found')));
    this.show('source');
  }

  setMode(mode) {
    const before = this.modeNow;
    this.modeNow = mode;
    document.body.dataset.mode = mode;
    this.controls.refresh();
    if (mode === before) return;
    if (mode === 'txt2img') this.show(this.hasResult ? 'result' : 'empty');
    else this.show('source');
  }

  setMargins(...sides) {
    const [left, right, top, bottom] = sides.map((side) => Math.max(0, Number(side) || 0));
    this.margins = { left, right, top, bottom };
    if (this.view === 'source') this.draw();
  }

  /** Put the control units and picture prompts of a Request into the form. */
  setCards(controls, likes) {
    this.set({ controls, likes });
    this.controls.setUnits(controls);
    this.likes.setAll(likes);
  }

  showKept() {
    const names = Object.keys(this.value.kept ?? {}).filter((name) => name !== 'parent');
    this.kept.hidden = names.length === 0;
    this.kept.replaceChildren(el('span', { text: `${t('kept')}: ${names.map((name) => t(`k.${name}`)).join(language() === 'en' ? ', ' : '、')}` }),
      el('button', { type: 'button', t: 'kept.clear', onclick: () => { this.set({ kept: {} }); this.showKept(); } }));
  }

  async refuse(error) {
    if (!(await showError(error))) toast(error.text);
  }

  /** A word from Python. */
  obey(command) {
    if (command.kind === 'job') this.begin(command.id, command.count, command.size);
    else if (command.kind === 'error') this.refuse(command.error);
    else if (command.kind === 'draft') this.onDraft?.(command);
    else if (command.kind === 'form') {
      this.set({ kept: command.keep ?? {} });
      if (command.controls) this.setCards(command.controls, command.likes);
      this.showKept();
      setTimeout(() => this.networks.sync(), 100); // the brief came with it
      this.modeNow = command.mode;
      document.body.dataset.mode = command.mode;
      this.setPicture(command.image, command.mask);
      if (command.mode === 'txt2img' && this.hasResult) this.show('result');
      if (command.mode === 'inpaint') toast(t('s.mask.hint'));
      else toast(t('s.sent'));
    } else if (command.kind === 'language') setTimeout(settle, 0, 'words'); // the labels came with it
  }
}

export function mount({ element, trigger, props, watch }) {
  const stage = new Stage({ element, trigger, props });
  document.body.dataset.mode = 'txt2img';
  foldSections(element.querySelector('.dq-stage-root').dataset.sections.split(' ')).then(() => settle('folds'));
  tidyForm();
  window.danqing = {
    stage,
    mode: (mode) => stage.setMode(mode),
    model: (model) => [stage.controls.load(model ?? ''), stage.networks.setModel(model ?? '')],
    margins: (...sides) => stage.setMargins(...sides),
    cancel: () => stage.watch.cancel(),
    choose: () => stage.drop.start.click(),
    read: () => stage.drop.reader.click(),
    ratio: nearestRatio,
    dice: () => stage.setSeed(''),
    reuse: () => stage.reuseSeed(),
  };
  let last = 0;
  const listen = () => {
    const { command } = props;
    if (!command?.number || command.number === last) return;
    last = command.number;
    stage.obey(command);
  };
  watch('command', listen);
  listen(); // the answer to the header's first word may be here already
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (document.querySelector('dialog[open]')) return; // what lies under a sheet is not painted by a slip
    document.activeElement?.dispatchEvent(new Event('change', { bubbles: true }));
    setTimeout(() => document.getElementById(document.body.classList.contains('dq-running') ? '' : 'dq-paint')?.click(), 30);
  }, true);
}
