// The client's page: looks after the link, puts the parts together, tells them when something changed.

import { Api } from './api.js';
import { el, icon, language, LANGUAGES, negotiate, relabel, setLanguage, several, t } from './base.js';
import { Gate } from './gate.js';
import { Live } from './live.js';
import { shared } from './memory.js';
import { Model } from './model.js';
import { Outbox } from './outbox.js';
import { Panel } from './panel.js';
import { SendBar } from './sendbar.js';
import { Stage } from './stage.js';
import { Versions } from './versions.js';

const TOAST_MS = 5000;
const path = location.pathname.replace(/\/+$/, '');
const dark = matchMedia('(prefers-color-scheme: dark)');

class Page {
  constructor() {
    this.api = new Api(path);
    this.model = new Model(path.split('/').at(-1));
    this.live = new Live({ api: this.api, read: () => this.read(), online: (on) => this.connected(on) });
    this.outbox = new Outbox({ model: this.model, api: this.api, told: (kind, facts) => this.told(kind, facts) });
    dark.addEventListener('change', () => this.light(null));
    this.light(null);
  }

  build() {
    const { model } = this;
    this.bar = new SendBar({ model, outbox: this.outbox, language, check: (versions) => this.check(versions) });
    this.panel = new Panel({ model, pointAt: (suggestion) => this.stage.pointAt(suggestion), approve: () => this.bar.approve() });
    this.stage = new Stage({ model, written: (id) => this.panel.marks.write(id), full: () => this.toast(t('marks.full')) });
    this.versions = new Versions(model);
    this.gate = new Gate({ model, unlock: (password) => this.unlock(password), again: () => this.open() });
    this.title = el('span', { class: 'title', dir: 'auto' });
    this.offline = el('p', { class: 'offline', role: 'status', hidden: true, t: 'offline' });
    this.news = el('div', { class: 'news', role: 'status' });
    this.languages = el('select', { class: 'language', tAria: 'language' }, ...Object.entries(LANGUAGES).map(([tag, name]) => el('option', { value: tag, lang: tag, text: name })));
    this.languages.addEventListener('change', () => this.speak(this.languages.value, true));
    const theme = el('button', { type: 'button', class: 'tool theme', tAria: 'theme', tTitle: 'theme', onclick: () => this.light(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark') }, icon('theme'));
    this.header = el('header', { class: 'header' }, el('span', { class: 'seal', 'aria-hidden': 'true', text: '丹青' }), this.title, this.languages, theme);
    this.body = el('main', { class: 'page', hidden: true },
      el('div', { class: 'left' }, this.offline, this.news, this.stage.node, this.versions.node),
      el('div', { class: 'right' }, this.panel.node, this.bar.node));
    this.toasts = el('div', { class: 'toasts', role: 'status' });
  }

  async start() {
    // words come first: what is made without them is not told of them later, while it is in no document
    await setLanguage(negotiate([this.model.memory.language, ...navigator.languages].filter(Boolean)));
    this.build();
    this.model.listen(() => this.show());
    await this.open();
  }

  /** Put the page there once there is something to say. */
  appear() {
    const app = document.getElementById('app');
    if (!app.hasAttribute('aria-busy')) return;
    app.removeAttribute('aria-busy');
    app.replaceChildren(this.header, this.gate.node, this.body, this.toasts);
    relabel(app); // the link's language may have come after these were made
  }

  async open() {
    const state = await this.read();
    if (state === null && this.model.gate === 'loading') {
      this.model.gate = 'offline';
      this.model.changed();
    }
    if (state && !state.locked) this.begin(state);
    else if (state === null) setTimeout(() => { if (this.model.gate === 'offline') this.open(); }, 4000);
  }

  begin(state) {
    this.live.start(state.last_event);
    this.outbox.flush();
  }

  async unlock(password) {
    const state = await this.api.unlock(password);
    await this.take(state);
    this.begin(state);
  }

  /** Read the state: it, `null` where there is no connection, `undefined` where the link does not open. */
  async read() {
    try {
      const state = await this.api.state();
      await this.take(state);
      return state;
    } catch (error) {
      if (error.status !== 404) return null;
      this.live.stop();
      this.model.gate = 'closed';
      this.model.changed();
      return undefined;
    }
  }

  async take(state) {
    const wanted = this.model.memory.language || (state.language in LANGUAGES ? state.language : '');
    if (wanted && wanted !== language()) await setLanguage(wanted);
    if (state.locked) this.live.stop();
    this.model.adopt(state);
  }

  connected(on) {
    this.offline.hidden = on;
    if (on && this.outbox.waiting) this.outbox.flush();
  }

  // what the parts ask for
  check(versions) {
    return versions.every((version) => this.checked(version)) && this.panel.named();
  }

  /** Whether all marks of a version say something; else it is shown, with the one that does not. */
  checked({ id }) {
    if (this.model.draft(id).marks.every((mark) => mark.prompt.trim())) return true;
    if (this.model.chosen !== id) this.model.choose(id);
    return this.panel.marks.check();
  }

  told(kind, facts) {
    if (kind !== 'gate') return this.bar.tell(kind, facts);
    return this.read(); // it tells whether the link is locked, or closed
  }

  announce() {
    const now = [language(), ...this.model.arrived].join();
    if (now === this.announced) return undefined;
    this.announced = now;
    const arrived = this.model.versions.filter((version) => this.model.arrived.includes(version.id));
    if (!arrived.length) return this.news.replaceChildren();
    const [newest] = arrived;
    return this.news.replaceChildren(
      el('span', { text: several('news', arrived.length, { number: newest.number }) }),
      el('button', { type: 'button', class: 'plain', text: t('news.look'), onclick: () => this.model.choose(newest.id) }),
      el('button', { type: 'button', class: 'tool', tAria: 'close', tTitle: 'close', onclick: () => { this.model.arrived = []; this.model.changed(); } }, icon('close')));
  }

  toast(text) {
    clearTimeout(this.toasted);
    this.toasts.replaceChildren(el('p', { text }));
    this.toasted = setTimeout(() => this.toasts.replaceChildren(), TOAST_MS);
  }

  // language and light
  async speak(tag, kept) {
    const spoken = await setLanguage(tag);
    if (spoken === null) return undefined;
    if (!spoken) return this.toast(t('offline'));
    if (kept) {
      this.model.memory.language = tag;
      this.model.memory.write();
    }
    return this.model.changed();
  }

  light(wanted) {
    if (wanted) shared.set('theme', wanted);
    document.documentElement.dataset.theme = shared.get('theme') ?? wanted ?? (dark.matches ? 'dark' : 'light');
  }

  show() {
    const { model } = this;
    if (model.gate === 'loading') return;
    this.appear();
    this.languages.value = language();
    const title = model.gate === 'closed' ? '' : model.state.title;
    this.title.textContent = title;
    document.title = [title, t('app')].filter(Boolean).join(' · ');
    this.gate.show();
    this.body.hidden = model.gate !== null;
    if (model.gate) return;
    this.announce();
    this.panel.show(this.bar.approval?.id === model.chosen);
    this.stage.show();
    this.versions.show();
    this.bar.show();
  }
}

new Page().start();
