// Undo and redo of whole images within a budget of bytes.

export class Undo {
  constructor(budget) {
    this.budget = budget;
    this.past = [];
    this.future = [];
  }

  clear() {
    this.past = [];
    this.future = [];
  }

  /** Keep the state before a change. */
  push(image) {
    this.past.push(image);
    this.future = [];
    const size = image.data.length || 1;
    const most = Math.max(1, Math.floor(this.budget / size));
    if (this.past.length > most) this.past.splice(0, this.past.length - most);
  }

  /** The state before the last change, or null; `now` can be brought back by `forth`. */
  back(now) {
    const image = this.past.pop() ?? null;
    if (image) this.future.push(now);
    return image;
  }

  forth(now) {
    const image = this.future.pop() ?? null;
    if (image) this.past.push(now);
    return image;
  }

  get canUndo() {
    return this.past.length > 0;
  }

  get canRedo() {
    return this.future.length > 0;
  }
}
