// What the page knows: the versions and what was said, what is drawn and not sent, which version is looked at.

import { Memory } from './memory.js';

export const STRENGTHS = { little: 0.35, clear: 0.6, whole: 0.9 };
const MAX_MARKS = 50;
const MAX_TEXT = 4000;
const UNDO_STEPS = 50;
const blank = () => ({ marks: [], note: '', starred: null, picked: null });

export class Model {
  constructor(token) {
    this.memory = new Memory(token, () => this.changed());
    this.listeners = new Set();
    this.gate = 'loading'; // loading, locked, closed, offline; null while the page works
    this.state = { title: '', versions: [], reviews: [], brief: null, language: 'en', expires_at: null };
    this.chosen = null; // id of the version looked at
    this.active = null; // id of the mark that is worked on
    this.arrived = []; // versions that came while the page was open and were not looked at
    this.past = new Map();
    this.number = 0;
  }

  listen(listener) {
    this.listeners.add(listener);
  }

  changed() {
    for (const listener of this.listeners) listener();
  }

  // versions
  get versions() {
    return [...this.state.versions].sort((a, b) => b.number - a.number);
  }

  get version() {
    return this.find(this.chosen);
  }

  find(id) {
    return this.state.versions.find((version) => version.id === id) ?? null;
  }

  /** Take the server's state; versions that were not there before are told of. */
  adopt(state) {
    if (state.locked) {
      this.gate = 'locked';
      this.state.title = state.title ?? '';
      return this.changed();
    }
    if (this.gate === null && state.last_event < this.state.last_event) return undefined; // an older answer that came later
    const before = new Set(this.state.versions.map((version) => version.id));
    const first = this.gate !== null && !before.size;
    this.state = state;
    this.gate = null;
    const ids = state.versions.map((version) => version.id);
    if (!this.memory.seen.length) this.memory.seen = ids;
    if (!first) this.arrived.push(...ids.filter((id) => !before.has(id)));
    this.arrived = this.arrived.filter((id) => ids.includes(id));
    if (!this.version) this.choose(this.versions.find((version) => this.hasDraft(version.id))?.id ?? this.versions[0]?.id ?? null);
    return this.changed();
  }

  choose(id) {
    this.chosen = id;
    this.active = null;
    this.arrived = this.arrived.filter((one) => one !== id);
    if (id && !this.memory.seen.includes(id)) this.memory.seen.push(id);
    this.memory.write();
    this.changed();
  }

  isNew(id) {
    return !this.memory.seen.includes(id);
  }

  // what was said
  reviewsOf(id) {
    return this.state.reviews.filter((review) => review.version === id);
  }

  add(review) {
    if (!this.state.reviews.some((one) => one.id === review.id)) this.state.reviews.push(review);
  }

  /** Star, choice and approval of a version as they stand: each reviewer's last word counts, an approval stays. */
  verdicts(id) {
    const last = new Map(this.reviewsOf(id).map((review) => [review.reviewer, review]));
    const now = [...last.values()];
    return {
      starred: now.some((review) => review.starred),
      picked: now.some((review) => review.picked),
      approved: this.reviewsOf(id).filter((review) => review.approved).map((review) => review.reviewer),
      remarks: this.reviewsOf(id).reduce((sum, review) => sum + review.suggestions.length, 0),
    };
  }

  // what is drawn and not sent
  draft(id = this.chosen) {
    return this.memory.drafts[id] ?? blank();
  }

  /** Whether the client's star or choice is on, sent or not. */
  flag(name, id = this.chosen) {
    return this.draft(id)[name] ?? this.memory.mine[id]?.[name] ?? false;
  }

  hasDraft(id) {
    const { marks, note, starred, picked } = this.draft(id);
    return marks.length > 0 || note.trim() !== '' || starred !== null || picked !== null;
  }

  /** Versions with something to send, oldest first. */
  get unsent() {
    return this.versions.filter((version) => this.hasDraft(version.id)).reverse();
  }

  edit(change, id = this.chosen) {
    const draft = { ...this.draft(id) };
    change(draft);
    this.memory.drafts[id] = draft;
    if (!this.hasDraft(id)) delete this.memory.drafts[id];
    this.memory.write();
    this.changed();
  }

  toggle(name) {
    const sent = this.memory.mine[this.chosen]?.[name] ?? false;
    const on = !this.flag(name);
    this.edit((draft) => { draft[name] = on === sent ? null : on; });
  }

  setNote(text) {
    this.edit((draft) => { draft.note = text.slice(0, MAX_TEXT); });
  }

  get full() {
    return this.draft().marks.length >= MAX_MARKS;
  }

  mark(id) {
    return this.draft().marks.find((mark) => mark.id === id) ?? null;
  }

  /** A new mark with this shape, to be written on; null where there are too many. */
  addMark(shape) {
    if (this.full) return null;
    this.remember();
    const mark = { id: newKey(), ...shape, prompt: '', strength: 'clear' };
    this.active = mark.id;
    this.edit((draft) => { draft.marks = [...draft.marks, mark]; });
    return mark;
  }

  /** @param {object} change of shape, prompt or strength; @param again whether `undo` has no step of its own for it */
  editMark(id, change, again = true) {
    if (!again) this.remember();
    if (typeof change.prompt === 'string') change.prompt = change.prompt.slice(0, MAX_TEXT);
    this.edit((draft) => { draft.marks = draft.marks.map((mark) => (mark.id === id ? { ...mark, ...change } : mark)); });
  }

  removeMark(id) {
    this.remember();
    if (this.active === id) this.active = null;
    this.edit((draft) => { draft.marks = draft.marks.filter((mark) => mark.id !== id); });
  }

  activate(id) {
    if (this.active === id) return;
    this.active = id;
    this.changed();
  }

  /** Keep the marks as they are now, for `undo`. */
  remember() {
    const steps = this.past.get(this.chosen) ?? [];
    this.past.set(this.chosen, [...steps, this.draft().marks].slice(-UNDO_STEPS));
  }

  get canUndo() {
    return (this.past.get(this.chosen) ?? []).length > 0;
  }

  /** Go back one step of drawing; words written since then stay. */
  undo() {
    const marks = this.past.get(this.chosen)?.pop();
    if (!marks) return;
    const written = new Map(this.draft().marks.map((mark) => [mark.id, mark]));
    this.edit((draft) => {
      draft.marks = marks.map((mark) => ({ ...mark, prompt: written.get(mark.id)?.prompt ?? mark.prompt, strength: written.get(mark.id)?.strength ?? mark.strength }));
    });
    if (!this.mark(this.active)) this.activate(null);
  }

  // sending
  /** Move what was drawn on a version to the outbox, with a key of its own. */
  post(id, language, approved = false) {
    const { marks, note } = this.draft(id);
    const suggestions = marks.map(({ box, lasso, prompt, strength }) => ({ ...(lasso ? { lasso } : { box }), prompt: prompt.trim(), strength: STRENGTHS[strength] }));
    const flags = { starred: this.flag('starred', id), picked: this.flag('picked', id), approved };
    const body = { key: newKey(), record: id, reviewer: this.memory.name.trim(), ...flags, note: note.trim(), language, suggestions };
    this.memory.outbox.push({ body, marks, before: this.memory.mine[id] ?? {} });
    this.memory.mine[id] = { starred: flags.starred, picked: flags.picked };
    delete this.memory.drafts[id];
    this.past.delete(id);
    this.active = null;
    this.memory.write();
    this.changed();
  }

  /** The answer came: the drawing is no longer needed. */
  sent(key, review) {
    this.memory.outbox = this.memory.outbox.filter(({ body }) => body.key !== key);
    this.memory.write();
    this.add(review);
    this.changed();
  }

  /** The server will not take it: it is a drawing again. */
  takeBack(key) {
    const item = this.memory.outbox.find(({ body }) => body.key === key);
    if (!item) return;
    const { record, note, starred, picked } = item.body;
    const mine = item.before;
    this.memory.mine[record] = mine;
    this.memory.outbox = this.memory.outbox.filter((one) => one !== item);
    this.edit((draft) => {
      draft.marks = [...item.marks, ...draft.marks];
      draft.note = [note, draft.note].filter(Boolean).join('\n');
      draft.starred ??= starred === (mine.starred ?? false) ? null : starred;
      draft.picked ??= picked === (mine.picked ?? false) ? null : picked;
    }, record);
  }
}

/** A key nobody else makes, also where the page has no `crypto.randomUUID` (plain http in an office). */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
