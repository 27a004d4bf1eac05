// What a finished picture is: its settings, and what can be done with it.
import { ask, el, iconButton, language, t, toast, url } from './base.js';

const ROWS = ['seed', 'size', 'sampler', 'schedule', 'steps', 'cfg', 'strength', 'model', 'time', 'made'];

export class Details {
  constructor(app) {
    this.app = app;
    this.record = null;
    this.bar = el('div', { class: 'dq-record-bar', hidden: true });
    this.panel = el('aside', { class: 'dq-details', hidden: true, tAria: 's.details' });
    this.open = false;
    this.comparison = null;
    this.opener = el('button', { type: 'button', class: 'dq-act dq-compare-open', t: 'v.compare', 'data-act': 'compare', hidden: true, onclick: () => this.compare() });
    app.board.toolbar.querySelector('.dq-spring').before(this.opener);
  }

  show(record) {
    if (record?.id !== this.record?.id) this.comparison?.close();
    this.record = record;
    this.bar.hidden = record === null;
    this.opener.hidden = !record?.before;
    this.panel.hidden = record === null || !this.open;
    this.panel.parentElement?.classList.toggle('with-details', !this.panel.hidden);
    if (record === null) return;
    this.fillBar();
    this.fillPanel();
  }

  relabel() {
    if (this.record) this.show(this.record);
  }

  fillBar() {
    const { id } = this.record;
    const button = (key, act, name) => el('button', { type: 'button', class: 'dq-act', t: key, 'data-act': name, onclick: act });
    const sends = ['img2img', 'inpaint', 'outpaint', 'drag', 'words', 'retouch', 'hires'].map((to) => button(`s.send.${to}`, () => this.app.send(`record:${id}`, to), to));
    const info = iconButton('info', 's.details', () => this.toggle(), { 'aria-pressed': String(this.open), class: 'dq-icon dq-info' });
    const download = el('a', { class: 'dq-icon', href: url(`web/records/${id}/picture?download=true`), download: '', tAria: 's.download', tTitle: 's.download' });
    download.innerHTML = iconButton('download', 's.download').innerHTML;
    const enlarge = el('button', { type: 'button', class: 'dq-act', t: 'u.enlarge', tTitle: 'u.tip', 'data-act': 'upscale', onclick: () => this.app.loose.enlarge(id, enlarge) });
    this.bar.replaceChildren(
      this.app.hasGrid() ? iconButton('back', 's.back', () => this.app.show('result')) : '',
      el('span', { class: 'dq-send', role: 'group', tAria: 's.send' }, el('span', { class: 'dq-send-label', t: 's.send' }), ...sends),
      enlarge,
      el('span', { class: 'dq-spring' }),
      button('s.reuse.seed', () => this.app.reuseSeed(), 'seed'),
      button('s.reuse.all', () => this.app.send(`record:${id}`, 'all'), 'all'),
      this.app.joining.button(id), this.app.joining.setButton(id), download,
      iconButton('clear', 's.delete', () => this.remove(), { 'data-act': 'delete' }),
      info);
  }

  /** Before and after of a picture that was painted over another one, or revises it. */
  async compare() {
    const { app, record } = this;
    const { Comparison } = await import('./compare.js');
    this.comparison ??= new Comparison(app.board, () => this.comparison.close());
    const addresses = { before: app.addressOf(record.before.ref), after: app.addressOf(`record:${record.id}`) };
    if (this.record === record && !(await this.comparison.open(record, addresses))) toast(t('e.code.not_found'));
  }

  toggle() {
    this.open = !this.open;
    this.show(this.record);
  }

  fillPanel() {
    const r = this.record;
    const made = new Intl.DateTimeFormat(language(), { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(r.created_at));
    const values = { ...r, size: `${r.width_px} × ${r.height_px}`, time: t('s.d.seconds', { seconds: r.seconds }), made };
    const list = el('dl', {});
    for (const name of ROWS) {
      const value = values[name];
      if (value === null || value === undefined || value === '') continue;
      list.append(el('dt', { t: `s.d.${name}` }), el('dd', { text: String(value) }));
    }
    const notes = r.notes.length ? [el('h3', { t: 's.notes' }), ...r.notes.map((note) => el('p', { text: note }))] : [];
    this.panel.replaceChildren(
      el('div', { class: 'dq-details-head' }, el('h2', { t: 's.details' }), iconButton('close', 's.close', () => this.toggle())),
      el('h3', { t: 's.d.prompt' }), el('p', { class: 'dq-prompt', text: r.prompt || '—' }),
      ...(r.negative ? [el('h3', { t: 's.d.negative' }), el('p', { text: r.negative })] : []),
      list, ...notes,
      el('button', { type: 'button', class: 'dq-act', t: 's.copy', onclick: () => this.copy() }));
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.record.infotext);
    } catch {
      const area = el('textarea', { class: 'dq-offscreen' });
      area.value = this.record.infotext;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    toast(t('s.copied'));
  }

  async remove() {
    const { id } = this.record;
    const { wishes } = this.app;
    const next = this.app.history.neighbour(id, 1) ?? this.app.history.neighbour(id, -1);
    try {
      await ask(`records/${id}`, { method: 'DELETE' });
    } catch (error) {
      toast(error.text);
      return;
    }
    this.app.removed(id, next, wishes);
    toast(t('s.deleted'), {
      text: t('s.restore'),
      run: async () => {
        try {
          await ask(`records/${id}/restore`, { method: 'POST' });
        } catch (error) {
          toast(error.text);
          return;
        }
        await this.app.history.load();
        this.app.openRecord(id);
      },
    });
  }
}
