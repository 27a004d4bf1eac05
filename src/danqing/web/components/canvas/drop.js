// Pictures from outside: dropped on the page, pasted, or chosen as a file.
import { ask, el, t, toast } from './base.js';

/** Whether a picture goes into the form itself, where there is room for one. */
const isOwn = (purpose) => purpose === 'start' || purpose === 'read';

const TYPES = 'image/png,image/jpeg,image/webp';

/** Keep a file in the studio; gives {ref, width_px, height_px}. */
export async function upload(file) {
  return ask('uploads', { method: 'POST', body: file, headers: { 'Content-Type': 'application/octet-stream' } });
}

export class Drop {
  /** @param app {startFrom(upload), send(source, to), take(purpose, ref), offers(purpose)} */
  constructor(app) {
    this.app = app;
    this.turn = 0; // of the pictures that the form is to begin with
    const zone = (key, hint, name) =>
      el('div', { class: 'dq-zone', 'data-zone': name }, el('strong', { t: key }), hint ? el('span', { t: hint }) : null);
    this.node = el('div', { class: 'dq-drop', hidden: true },
      zone('s.drop.start', null, 'start'), zone('s.drop.read', 's.drop.hint', 'read'),
      zone('d.title', 'd.drop', 'describe'), zone('c.title', 'c.drop', 'control'),
      zone('l.title', 'l.drop', 'like'));
    this.start = this.input('start');
    this.reader = this.input('read');
    document.body.append(this.node, this.start, this.reader);
    document.addEventListener('dragenter', (event) => this.enter(event));
    document.addEventListener('dragover', (event) => this.wanted(event) && event.preventDefault());
    document.addEventListener('dragleave', (event) => event.relatedTarget === null && this.hide());
    document.addEventListener('drop', (event) => this.drop(event));
    document.addEventListener('paste', (event) => this.paste(event));
  }

  input(purpose) {
    const input = el('input', { type: 'file', accept: TYPES, class: 'dq-offscreen', 'data-purpose': purpose, tabindex: '-1', 'aria-hidden': 'true' });
    input.addEventListener('change', () => {
      if (input.files.length) this.take(input.files[0], purpose);
      input.value = '';
    });
    return input;
  }

  wanted(event) {
    const types = [...(event.dataTransfer?.types ?? [])];
    return types.includes('Files') || types.includes('text/danqing-record');
  }

  enter(event) {
    if (!this.wanted(event)) return;
    event.preventDefault();
    for (const zone of this.node.children) zone.hidden = !this.app.offers(zone.dataset.zone);
    this.node.hidden = false;
  }

  hide() {
    this.node.hidden = true;
  }

  drop(event) {
    if (!this.wanted(event)) return;
    event.preventDefault();
    event.stopPropagation();
    this.hide();
    const purpose = event.target.closest?.('[data-zone]')?.dataset.zone ?? 'start';
    const record = event.dataTransfer.getData('text/danqing-record');
    const file = event.dataTransfer.files[0];
    const own = isOwn(purpose);
    if (record && own) this.turn += 1;
    if (record && !own) this.app.take(purpose, `record:${record}`);
    else if (record) this.app.send(`record:${record}`, purpose === 'read' ? 'all' : 'img2img');
    else if (file) this.take(file, purpose);
  }

  paste(event) {
    const file = [...(event.clipboardData?.files ?? [])].find((item) => item.type.startsWith('image/'));
    if (file) this.take(file, 'start');
  }

  async take(file, purpose) {
    if (isOwn(purpose)) this.turn += 1;
    const { turn } = this;
    try {
      const kept = await upload(file);
      if (isOwn(purpose) && turn !== this.turn) return; // another one was chosen while this one was on its way
      if (purpose === 'read') this.app.send(kept.ref, 'all');
      else if (purpose === 'start') this.app.startFrom(kept);
      else this.app.take(purpose, kept.ref);
    } catch (error) {
      toast(error.text ?? t('e.code.error'));
    }
  }
}
