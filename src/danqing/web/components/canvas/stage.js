// The stage: puts canvas, progress, history, details and dropping together, and speaks with Python.
import { ask, el, language, onLanguage, relabel, t, toast, type, url } from './base.js';
import { Board } from './board.js';
import { Controls } from './controls.js';
import { Describe } from './describe.js';
import { Details } from './details.js';
import { Drag } from './drag.js';
import { Drop } from './drop.js';
import { Explore } from './explore.js';
import { Loose } from './enlarge.js';
import { arrival, clearErrors, paintedSize, showError, unfold } from './fields.js';
import { History } from './history.js';
import { Watch } from './job.js';
import { Joining } from './joining.js';
import { Likes } from './likes.js';
import { Networks } from './networks.js';
import { Regions } from './regions.js';
import { Rewording } from './rewording.js';
import { Steps } from './steps.js';
import { Views } from './views.js';

export class Stage {
  constructor({ element, trigger, props }) {
    this.trigger = trigger;
    this.props = props;
    this.modeNow = 'txt2img';
    this.margins = { left: 0, right: 0, top: 0, bottom: 0 };
    this.tiles = [];
    this.record = null;
    this.wishes = 0; // how often something else was asked to be seen
    this.view = 'empty';
    this.failure = null;
    this.under = this.painted = null; // the result that regions are drawn over: {id, width, height}; the size to be painted
    this.board = new Board(this);
    this.views = new Views(this);
    this.watch = new Watch(this.jobEvents());
    this.history = new History(this);
    this.details = new Details(this);
    this.loose = new Loose(this);
    this.controls = new Controls(this);
    this.likes = new Likes(this);
    this.describe = new Describe(this);
    this.networks = new Networks();
    this.drag = new Drag(this);
    this.regions = new Regions(this);
    this.rewording = new Rewording(this);
    this.retouch = new Steps(this, 'retouch_steps');
    this.finish = new Steps(this, 'finish');
    this.drop = new Drop(this);
    this.joining = new Joining(this);
    this.explore = new Explore(this);
    this.kept = el('div', { class: 'dq-kept', hidden: true });
    const canvas = el('section', { class: 'dq-canvas', tAria: 's.canvas' },
      this.board.toolbar, this.board.board, this.watch.node, this.details.bar, this.loose.bar, this.details.panel);
    element.querySelector('.dq-stage-root').append(canvas, this.history.node);
    document.getElementById('dq-paint')?.closest('.dq-actions')?.after(this.kept);
    arrival('#dq-controls').then((place) => place.append(...this.cards().map(({ node }) => node)));
    arrival('#dq-finish').then((place) => place.append(this.finish.node));
    arrival('#dq-explore').then((place) => place.append(this.explore.node));
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

  /** What stands in the form as cards. */
  cards() {
    return [this.rewording, this.retouch, this.drag, this.regions, this.controls, this.likes];
  }

  set(values) {
    this.props.value = { ...this.value, ...values };
    this.trigger('change');
  }

  relabel() {
    relabel(document.querySelector('.dq-stage-root'));
    for (const { node } of [this.drop, this.finish, this.explore, ...this.cards()]) relabel(node);
    for (const part of [this.finish, this.history, this.joining, this.details, ...this.cards(), this.describe, this.networks, this.explore]) part.relabel();
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

  /** Something is asked to be seen: gives what says, when it has come, whether it is still wanted. */
  wish() {
    this.wishes += 1;
    const { wishes } = this;
    return () => wishes === this.wishes;
  }

  /** Go to a view: 'source', 'regions', 'result' (the last job), 'record', 'loose' (no Record) or 'empty'. */
  show(view) {
    this.wish();
    this.view = view;
    this.loose.show(null);
    if (view === 'result' && !this.watch.id && !this.hasResult && this.under) {
      this.openRecord(this.under.id);
      return;
    }
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
    this.views.draw();
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
    if (!this.tiles[index] || (this.tiles[index].id && !values.id)) return;
    Object.assign(this.tiles[index], values);
    if (this.view === 'result') this.views.drawResult();
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
    const wanted = this.wish();
    const record = await ask(`records/${id}`).catch((error) => toast(error.text));
    if (!record || !wanted()) return;
    this.record = record;
    this.loose.show(null);
    this.view = 'record';
    this.details.show(this.record);
    this.history.mark(id);
    this.draw();
  }

  /** Show a picture that is no Record: {ref, title, name}, and where the way back leads. */
  showLoose(loose) {
    this.wish();
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
    return this.before.view === 'record' ? this.openRecord(this.before.id) : this.show(this.before.view);
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

  /** Files that enlarge. */
  upscalers() {
    return this.controls.offers.upscalers ?? [];
  }

  /** Whether a dropped picture can go there. */
  offers(purpose) {
    return { control: this.controls.available, like: this.likes.available }[purpose] ?? true;
  }

  take(purpose, ref) {
    ({ control: this.controls, like: this.likes, describe: this.describe })[purpose].take(ref);
  }

  /** A Record is deleted; `next` follows it on the canvas, unless something else is looked at by now. */
  removed(id, next, wishes) {
    this.history.remove(id);
    this.tiles = this.tiles.filter((tile) => tile.id !== id);
    if (this.under?.id === id) this.under = null;
    if (wishes !== this.wishes) return;
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
    const record = this.record ?? (await ask(`records/${id}`).catch((error) => toast(error.text)));
    if (record) this.setSeed(record.seed);
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
    const other = image?.ref !== this.value.image?.ref;
    this.set({ image, mask: null });
    this.controls.refresh();
    this.regions.fit();
    if (other) this.drag.setAll([]);
    if (other) this.rewording.otherPicture();
    if (image) this.board.mask.reset(image.width_px, image.height_px);
    const wanted = this.wish();
    if (image && mask) await this.board.mask.load(this.addressOf(mask)).catch(() => toast(t('e.code.not_found')));
    if (wanted()) this.show('source');
  }

  setMode(mode) {
    const before = this.modeNow;
    this.modeNow = mode;
    document.body.dataset.mode = mode;
    this.controls.refresh();
    this.regions.fit();
    if (mode === before) return;
    if (mode === 'txt2img') this.show(this.hasResult ? 'result' : 'empty');
    else this.show('source');
  }

  setMargins(...sides) {
    const [left, right, top, bottom] = sides.map((side) => Math.max(0, Number(side) || 0));
    this.margins = { left, right, top, bottom };
    if (this.view === 'source') this.draw();
  }

  /** Put the control units, picture prompts, regions and pulls of a Request into the form. */
  setCards({ controls, likes, regions, engine, points, words, retouch_steps: steps, finish, size: [width, height], image }) {
    this.set({ controls, likes });
    this.controls.setUnits(controls);
    this.likes.setAll(likes);
    this.regions.setAll(regions, engine, image ? { width: image.width_px, height: image.height_px } : { width, height });
    this.drag.setAll(points);
    this.rewording.setAll(words);
    this.retouch.setAll(steps);
    this.finish.setAll(finish);
  }

  // regions ---------------------------------------------------------------------------------------------------------
  /** What regions are drawn on: the starting picture, or an empty frame of the size that will be painted. */
  regionFrame() {
    const { image } = this.value;
    if (this.modeNow !== 'txt2img' && image) return { width: image.width_px, height: image.height_px };
    const { width_px: width = 512, height_px: height = 512 } = this.painted ?? paintedSize();
    return { width, height };
  }

  /** The size that will be painted is another one. */
  sized(...sides) {
    const [width, height] = sides.map(Number);
    if (![width, height].every((side) => Number.isInteger(side) && side >= 16 && side <= 4096)) return;
    this.painted = { width_px: width, height_px: height };
    this.regions.fit();
    if (this.view === 'regions') this.draw();
  }

  /** Whether the mode paints regions. */
  get takesRegions() {
    return !['drag', 'words', 'retouch'].includes(this.modeNow);
  }

  /** Go to the regions; `tool` is the one to take into the hand. */
  showRegions(tool = null) {
    if (!this.takesRegions) return;
    const [tile] = this.tiles;
    const seen = this.record ?? (tile?.id ? { id: tile.id, width_px: this.width, height_px: this.height } : null);
    if (seen) this.under = { id: seen.id, width: seen.width_px, height: seen.height_px };
    this.wantedTool = tool;
    this.show('regions');
    if (matchMedia('(max-width: 760px)').matches) this.board.board.scrollIntoView({ behavior: 'smooth', block: 'center' });
  }

  leaveRegions() {
    const painted = this.hasResult || this.under ? 'result' : 'empty';
    this.show(this.modeNow === 'txt2img' ? painted : 'source');
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
    else if (command.kind === 'explore') this.explore.take(command);
    else if (command.kind === 'form') {
      this.set({ kept: command.keep ?? {} });
      this.showKept();
      setTimeout(() => this.networks.sync(), 100); // the brief came with it
      this.modeNow = command.mode;
      document.body.dataset.mode = command.mode;
      if (command.size) this.painted = { width_px: command.size[0], height_px: command.size[1] };
      this.setPicture(command.image, command.mask);
      if (command.controls) this.setCards(command);
      else if (command.words) this.rewording.setAll(command.words, command.words.source_prompt);
      if (command.mode === 'txt2img' && this.hasResult) this.show('result');
      toast(t(command.mode === 'inpaint' ? 's.mask.hint' : 's.sent'));
      const fold = { drag: 'drag_mode', words: 'words', retouch: 'retouch_steps' }[command.mode];
      if (fold) unfold('composition', fold);
    } else if (command.kind === 'language') document.dispatchEvent(new CustomEvent('dq:spoken', { detail: command.tag }));
  }
}

