// Pictures on the canvas that are no Records: one made four times larger, or a control map. They can be saved and used.
import { el, iconButton, post, t, toast, url } from './base.js';

export class Loose {
  /** @param app {startFrom(picture), showLoose(loose), leaveLoose(), openRecord(id)} @param bar the bar below the canvas */
  constructor(app) {
    this.app = app;
    this.bar = el('div', { class: 'dq-record-bar dq-loose-bar', hidden: true });
    this.busy = false;
  }

  /** Show the bar of a loose picture {ref, title, name, width_px?, height_px?}, or hide it. */
  show(loose) {
    this.loose = loose;
    this.bar.hidden = loose === null;
    if (loose === null) return;
    const { ref, title, name, width_px: width, height_px: height } = loose;
    const save = el('a', { class: 'dq-act dq-save', href: url(`web/uploads/${ref.replace('sha256:', '')}?name=${name}`), download: '', t: 's.download' });
    const start = width ? [el('button', { type: 'button', class: 'dq-act', t: 's.drop.start', onclick: () => this.app.startFrom(loose) })] : [];
    this.bar.replaceChildren(iconButton('back', 's.back', () => this.app.leaveLoose()),
      el('span', { class: 'dq-loose-title' }, el('span', { t: title }), width ? ` ${width} × ${height}` : ''), el('span', { class: 'dq-spring' }), ...start, save);
  }

  /** Have a Record made four times larger; its button waits meanwhile. */
  async enlarge(id, button) {
    if (this.busy) return;
    this.busy = true;
    const { wishes } = this.app;
    button.disabled = true;
    button.dataset.t = 'u.busy';
    button.textContent = t('u.busy');
    try {
      const made = await post('upscale', { image: `record:${id}` });
      const show = () => this.app.showLoose({ ...made, title: 'u.done', name: `danqing-${id}-x4`, record: id });
      if (wishes === this.app.wishes) show();
      else toast(`${t('u.done')} ${made.width_px} × ${made.height_px}`, { text: t('p.show'), run: show }); // something else is looked at by now
    } catch (error) {
      toast(error.text);
    } finally {
      this.busy = false;
      button.disabled = false;
      button.dataset.t = 'u.enlarge';
      button.textContent = t('u.enlarge');
    }
  }
}
