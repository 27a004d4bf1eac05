// Fingers, pen and mouse on the board: two fingers zoom and move, one draws or moves, the wheel zooms.

const TAP_PX = 6;
const DOUBLE_MS = 320;

export class Gestures {
  /** @param view View @param hand {draws(): bool, begin(place), move(place), end(place, tapped), cancel()}; places in picture pixels */
  constructor(view, hand) {
    Object.assign(this, { view, hand, board: view.board });
    this.pointers = new Map();
    this.mode = 'idle';
    this.space = false;
    this.tapped = { at: 0, x: 0, y: 0 };
    const { board } = this;
    board.addEventListener('pointerdown', (event) => this.down(event));
    board.addEventListener('pointermove', (event) => this.move(event));
    board.addEventListener('pointerup', (event) => this.up(event));
    board.addEventListener('pointercancel', (event) => this.lose(event));
    board.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    // two fingers are ours, even where one may scroll the page; the second is for Safari
    board.addEventListener('touchmove', (event) => { if (event.touches.length > 1 && event.cancelable) event.preventDefault(); }, { passive: false });
    board.addEventListener('gesturestart', (event) => event.preventDefault());
    board.addEventListener('keydown', (event) => this.hold(event, true));
    board.addEventListener('keyup', (event) => this.hold(event, false));
    board.addEventListener('blur', () => { this.space = false; });
  }

  hold(event, on) {
    if (event.key !== ' ' || event.target !== this.board) return;
    event.preventDefault();
    this.space = on;
  }

  down(event) {
    if (event.target.closest('button, a') || event.button > 1) return;
    if (event.pointerType === 'mouse') this.pointers.clear(); // a mouse is one pointer
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.board.setPointerCapture(event.pointerId);
    if (this.pointers.size === 2) {
      if (this.mode === 'draw') this.hand.cancel();
      this.mode = 'pinch';
      this.spread = this.spreading();
      return;
    }
    if (this.pointers.size > 2) return;
    this.start = { x: event.clientX, y: event.clientY, far: 0 };
    this.mode = this.hand.draws() && event.button === 0 && !this.space ? 'draw' : 'pan';
    if (this.mode === 'draw') this.hand.begin(this.view.toPicture(event));
    else if (event.button === 1) event.preventDefault();
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.start) this.start.far = Math.max(this.start.far, Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y));
    if (this.mode === 'pinch') this.pinch();
    else if (this.mode === 'pan') this.view.pan(dx, dy);
    else if (this.mode === 'draw') {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) this.hand.move(this.view.toPicture(step));
    }
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const tapped = (this.start?.far ?? 0) < TAP_PX;
    if (this.mode === 'draw') this.hand.end(this.view.toPicture(event), tapped);
    else if (this.mode === 'pan' && tapped && event.button === 0) this.tap(event);
    this.rest();
  }

  lose(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.mode === 'draw') this.hand.cancel();
    this.rest();
  }

  /** One finger left of two goes on moving the picture; a stroke never begins in the middle of a pinch. */
  rest() {
    this.mode = this.pointers.size === 1 ? 'pan' : this.pointers.size ? this.mode : 'idle';
    if (this.pointers.size) this.start = { x: 0, y: 0, far: TAP_PX };
  }

  tap(event) {
    const { at, x, y } = this.tapped;
    this.tapped = { at: event.timeStamp, x: event.clientX, y: event.clientY };
    if (event.timeStamp - at > DOUBLE_MS || Math.hypot(event.clientX - x, event.clientY - y) > 30) return;
    const box = this.board.getBoundingClientRect();
    if (this.view.fitted) this.view.zoom(2.5, event.clientX - box.left, event.clientY - box.top);
    else this.view.fit();
    this.tapped.at = 0;
  }

  spreading() {
    const [a, b] = [...this.pointers.values()];
    return { wide: Math.hypot(a.x - b.x, a.y - b.y) || 1, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  }

  pinch() {
    if (this.pointers.size < 2) return;
    const now = this.spreading();
    const box = this.board.getBoundingClientRect();
    this.view.pan(now.x - this.spread.x, now.y - this.spread.y);
    this.view.zoom(now.wide / this.spread.wide, now.x - box.left, now.y - box.top);
    this.spread = now;
  }

  wheel(event) {
    const page = document.documentElement;
    const scrolls = page.scrollHeight > page.clientHeight + 4;
    if (scrolls && !event.ctrlKey && this.view.fitted) return; // the page is to be scrolled
    event.preventDefault();
    const box = this.board.getBoundingClientRect();
    this.view.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }
}
