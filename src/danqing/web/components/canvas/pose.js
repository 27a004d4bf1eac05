// The pose editor: figures of 18 joints on an easel; what comes out is the map that OpenPose would draw.
import { el, iconButton, t } from './base.js';
import { Easel, keepCanvas } from './easel.js';
import { Pointing } from './pointing.js';
import { MOST, readPeople, writePeople } from './posefile.js';
import { POINTS, POSES, boxOf, drawPeople, figure, mirrored, moved, scaled } from './skeleton.js';
import { Undo } from './undo.js';

const MEMORY = 2 ** 21; // characters of JSON
const copy = (people) => people.map((person) => person.map((point) => [...point]));

/** People drawn on a frame of another size, brought to this one. */
function fitted({ people, width, height }, frame) {
  const scale = Math.min(frame.width / width, frame.height / height);
  const [dx, dy] = [(frame.width - width * scale) / 2, (frame.height - height * scale) / 2];
  return people.map((person) => person.map(([x, y, on]) => [x * scale + dx, y * scale + dy, on]));
}

export class PoseEditor {
  /** @param options {frame: {width, height}, under, drawing: what `done` got before, or null, done(ref, drawing)} */
  constructor({ frame, under, drawing, done }) {
    Object.assign(this, frame, { under, done });
    this.people = drawing ? fitted(drawing, frame) : [figure('standing', frame.width, frame.height)];
    this.person = 0;
    this.joint = null;
    this.past = new Undo(MEMORY);
    this.build();
  }

  build() {
    const { width, height, under } = this;
    const easel = new Easel({ kind: 'pose', title: 'c.pose.title', hint: 'c.pose.hint', width, height, under, finish: () => this.finish() });
    this.easel = easel;
    this.map = el('canvas', { class: 'dq-layer', width, height });
    this.marks = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    this.marks.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.marks.classList.add('dq-layer');
    easel.world.append(this.map, this.marks);
    easel.tools.add(new Pointing(this).tool());
    easel.tools.choose('pose');
    easel.board.addEventListener('dq:zoom', () => this.draw());
    easel.board.addEventListener('dblclick', (event) => this.toggleAt(easel.viewport.toPicture(event)));
    easel.board.addEventListener('keydown', (event) => this.command(event));
    this.undoButton = iconButton('undo', 's.undo', () => this.step('back'));
    this.redoButton = iconButton('redo', 's.redo', () => this.step('forth'));
    easel.fill(this.undoButton, this.redoButton,
      iconButton('mirror', 'c.pose.mirror', () => this.change(mirrored)),
      iconButton('shrink', 'c.pose.shrink', () => this.resize(1 / 1.1)), iconButton('grow', 'c.pose.grow', () => this.resize(1.1)));
    this.buildSide();
  }

  buildSide() {
    this.persons = el('select', { tAria: 'c.pose.person' });
    this.persons.addEventListener('change', () => this.select(Number(this.persons.value), null));
    this.joints = el('select', { tAria: 'c.pose.joint' });
    this.joints.addEventListener('change', () => this.select(this.person, this.joints.value === '' ? null : Number(this.joints.value)));
    this.toggleButton = el('button', { type: 'button', class: 'dq-act', onclick: () => this.toggle() });
    this.addButton = el('button', { type: 'button', class: 'dq-act dq-pose-add', t: 'c.pose.add', onclick: () => this.add() });
    this.removeButton = el('button', { type: 'button', class: 'dq-act', t: 'c.pose.remove', onclick: () => this.remove() });
    this.personField = el('label', { class: 'dq-field' }, el('span', { t: 'c.pose.person' }), this.persons);
    this.status = el('p', { class: 'dq-offscreen', role: 'status' });
    this.file = el('input', { type: 'file', accept: 'application/json,.json', class: 'dq-offscreen', tabindex: '-1', 'aria-hidden': 'true' });
    this.file.addEventListener('change', () => this.read());
    const poses = Object.keys(POSES).map((name) =>
      el('button', { type: 'button', class: 'dq-tag', 'data-pose': name, t: `c.pose.start.${name}`, onclick: () => this.start(name) }));
    this.easel.side.append(
      el('div', { class: 'dq-field', role: 'group', tAria: 'c.pose.start' }, el('span', { t: 'c.pose.start' }), el('div', { class: 'dq-tags' }, ...poses)),
      this.personField, el('div', { class: 'dq-row' }, this.addButton, this.removeButton),
      el('label', { class: 'dq-field' }, el('span', { t: 'c.pose.joint' }), this.joints), this.toggleButton,
      el('div', { class: 'dq-row' },
        el('button', { type: 'button', class: 'dq-link', t: 'c.pose.import', onclick: () => this.file.click() }),
        el('button', { type: 'button', class: 'dq-link dq-pose-export', t: 'c.pose.export', onclick: () => this.write() })),
      this.file, this.status);
  }

  open() {
    this.easel.open(() => this.reopen());
    this.draw();
  }

  reopen() {
    const { width, height, people, under, done } = this;
    const again = new PoseEditor({ frame: { width, height }, under, drawing: { people, width, height }, done });
    again.easel.dirty = true;
    again.open();
  }

  get current() {
    return this.people[this.person] ?? null;
  }

  select(person, joint) {
    this.person = person;
    this.joint = joint;
    this.draw();
    const point = joint === null ? null : this.current?.[joint];
    this.status.textContent = point ? `${this.nameOf(joint)}: ${Math.round(point[0])}, ${Math.round(point[1])}` : '';
  }

  nameOf(joint) {
    const name = t(`c.pose.point.${POINTS[joint]}`);
    return this.current[joint][2] ? name : t('c.pose.joint.hidden', { name });
  }

  // changes ---------------------------------------------------------------------------------------------------------
  snapshot() {
    return { data: JSON.stringify(this.people) };
  }

  /** Keep the state before a change. */
  keep(before = this.snapshot()) {
    this.past.push(before);
    this.easel.dirty = true;
    this.easel.fail(null);
  }

  step(way) {
    const found = this.past[way](this.snapshot());
    if (!found) return;
    this.people = JSON.parse(found.data);
    this.select(Math.max(0, Math.min(this.person, this.people.length - 1)), null);
  }

  change(make) {
    if (!this.current) return;
    this.keep();
    this.people[this.person] = make(this.current);
    this.draw();
  }

  resize(factor) {
    if (!this.current) return;
    const { left, top, right, bottom } = boxOf(this.current);
    if (factor < 1 && Math.max(right - left, bottom - top) < 32) return;
    this.change((person) => scaled(person, factor, (left + right) / 2, (top + bottom) / 2));
  }

  /** A starting pose in the place of the chosen person. */
  start(name) {
    const fresh = figure(name, this.width, this.height);
    if (!this.current) return this.add(fresh);
    const [old, box] = [boxOf(this.current), boxOf(fresh)];
    const [cx, bottom] = [(old.left + old.right) / 2, old.bottom];
    const factor = Math.min(1, Math.max(0.2, (old.bottom - old.top) / (box.bottom - box.top)));
    return this.change(() => moved(scaled(fresh, factor, 0, 0), cx - ((box.left + box.right) / 2) * factor, bottom - box.bottom * factor));
  }

  add(person = null) {
    if (this.people.length >= MOST) return;
    this.keep();
    const place = [0.5, 0.25, 0.75, 0.38, 0.62][this.people.length % 5];
    this.people.push(person ?? figure('standing', this.width, this.height, place));
    this.select(this.people.length - 1, null);
  }

  remove() {
    if (!this.current) return;
    this.keep();
    this.people.splice(this.person, 1);
    this.select(Math.max(0, this.person - 1), null);
  }

  toggle() {
    if (this.joint === null) return;
    this.change((person) => person.map((point, n) => (n === this.joint ? [point[0], point[1], point[2] ? 0 : 1] : point)));
    this.select(this.person, this.joint);
  }

  toggleAt(place) {
    if (this.joint === null) return;
    const [x, y] = this.current[this.joint];
    if (Math.hypot(x - place.x, y - place.y) * this.easel.viewport.scale < 24) this.toggle();
  }

  // keys ------------------------------------------------------------------------------------------------------------
  command(event) {
    if (event.target !== this.easel.board) return;
    const held = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (held && (key === 'z' || key === 'y')) this.step(key === 'y' || event.shiftKey ? 'forth' : 'back');
    else if (!held && key === 'm') this.change(mirrored);
    else return;
    event.preventDefault();
  }

  /** Keys that the board hands on: arrows move, Page Up and Down choose, Delete hides, brackets resize. */
  key(event) {
    const step = Math.max(1, Math.min(this.width, this.height) / 128) * (event.shiftKey ? 8 : 1);
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (!this.current) return false;
    if (move) this.nudge(...move);
    else if (event.key === 'PageDown') this.select(this.person, this.joint === null ? 0 : (this.joint + 1) % POINTS.length);
    else if (event.key === 'PageUp') this.select(this.person, ((this.joint ?? 0) + POINTS.length - 1) % POINTS.length);
    else if (event.key === 'Delete' || event.key === 'Backspace') this.toggle();
    else if (event.key === '[' || event.key === ']') this.resize(event.key === '[' ? 1 / 1.1 : 1.1);
    else return false;
    return true;
  }

  nudge(dx, dy) {
    this.change((person) => (this.joint === null ? moved(person, dx, dy)
      : person.map((point, n) => (n === this.joint ? [point[0] + dx, point[1] + dy, point[2]] : point))));
    this.select(this.person, this.joint);
  }

  // files -----------------------------------------------------------------------------------------------------------
  async read() {
    const [file] = this.file.files;
    this.file.value = '';
    if (!file) return;
    let people;
    try {
      people = readPeople(await file.text(), this.width, this.height);
    } catch {
      this.easel.fail(t('c.pose.bad'));
      return;
    }
    this.keep();
    this.people = people;
    this.select(0, null);
  }

  write() {
    const link = el('a', { href: URL.createObjectURL(new Blob([writePeople(this.people, this.width, this.height)], { type: 'application/json' })), download: 'danqing-pose.json' });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  async finish() {
    if (!this.people.some((person) => person.some(([, , on]) => on))) return t('c.pose.none');
    const { width, height } = this;
    const canvas = el('canvas', { width, height });
    canvas.getContext('2d').putImageData(drawPeople(this.people, width, height), 0, 0);
    this.done(await keepCanvas(canvas), { kind: 'pose', width, height, people: copy(this.people) });
    return null;
  }

  // what is seen ----------------------------------------------------------------------------------------------------
  draw() {
    const { width, height, current } = this;
    this.map.getContext('2d').putImageData(drawPeople(this.people, width, height, true), 0, 0);
    const pixel = 1 / this.easel.viewport.scale;
    const marks = this.people.flatMap((person, n) => person.map(([x, y, on], j) =>
      `<circle cx="${x}" cy="${y}" r="${(on ? 6 : 5) * pixel}" class="${on ? '' : 'off '}${n === this.person && j === this.joint ? 'chosen' : ''}"/>`));
    if (current) {
      const { left, top, right, bottom } = this.frameOf(current);
      marks.unshift(`<rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/>`);
      for (const [x, y] of [[left, top], [right, top], [left, bottom], [right, bottom]]) marks.push(`<rect class="corner" x="${x - 5 * pixel}" y="${y - 5 * pixel}" width="${10 * pixel}" height="${10 * pixel}"/>`);
    }
    this.marks.innerHTML = marks.join('');
    this.refresh();
  }

  /** The box of a person with some air, in pixels of the frame. */
  frameOf(person) {
    const air = 14 / this.easel.viewport.scale;
    const { left, top, right, bottom } = boxOf(person);
    return { left: left - air, top: top - air, right: right + air, bottom: bottom + air };
  }

  refresh() {
    const { people, current, joint } = this;
    this.undoButton.disabled = !this.past.canUndo;
    this.redoButton.disabled = !this.past.canRedo;
    this.addButton.disabled = people.length >= MOST;
    this.removeButton.disabled = !current;
    this.personField.hidden = people.length < 2;
    this.persons.replaceChildren(...people.map((_, n) => el('option', { value: n, text: t('c.pose.person.n', { number: n + 1 }) })));
    this.persons.value = String(this.person);
    this.joints.replaceChildren(el('option', { value: '', t: 'c.pose.joint.all' }), ...(current ? POINTS.map((_, n) => el('option', { value: n, text: this.nameOf(n) })) : []));
    this.joints.value = joint === null ? '' : String(joint);
    this.toggleButton.disabled = joint === null || !current;
    this.toggleButton.textContent = t(joint !== null && current && !current[joint][2] ? 'c.pose.show' : 'c.pose.hide');
  }
}
