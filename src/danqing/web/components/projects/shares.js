// Links for the client: what each shows, how long it is open, making one, taking it back.
import { el, language, relabel, t, toast, url } from '../canvas/base.js';
import { languageNames, moment, patch, post, thumbOf } from './api.js';
import { sign } from './icons.js';
import { check, confirm, copyText, field, moreButton, plural, sheet } from './sheets.js';

const DAYS = [1, 7, 14, 30, 90];
const USUAL_DAYS = 14;
const SHOWN = ['prompts', 'brief', 'labels'];
const DAY_MS = 86_400_000;

export const isOpen = (share) => share.revoked_at === null && (share.expires_at === null || new Date(share.expires_at) > new Date());

/** What can be chosen of a link, new or old. */
class ShareForm {
  /** @param share {name, follow, shown, language, expires_at}; @param versions to choose from, or null where they stay as they are */
  constructor(share, versions, chosen) {
    this.share = share;
    this.name = el('input', { type: 'text', maxlength: '120', required: true, autofocus: true, name: 'name' });
    this.name.value = share.name;
    this.follow = check('p.share.follow', share.follow);
    this.shown = SHOWN.map((name) => check(`p.share.shown.${name}`, share.shown[name]));
    this.language = el('select', { name: 'language' }, ...Object.entries(languageNames()).map(([tag, name]) => el('option', { value: tag, text: name, lang: tag })));
    this.language.value = share.language;
    const days = (count) => el('option', { value: String(count), text: t(count === 1 ? 'p.share.day' : 'p.share.days', { count }) });
    this.expiry = el('select', { name: 'expiry' }, share.id ? el('option', { value: 'keep', text: share.expires_at ? t('p.share.until', { date: moment(share.expires_at) }) : t('p.share.never') }) : null, ...DAYS.map(days), share.id && !share.expires_at ? null : el('option', { value: 'never', t: 'p.share.never' }));
    this.expiry.value = share.id ? 'keep' : String(USUAL_DAYS);
    this.password = el('input', { type: 'text', minlength: '4', maxlength: '200', autocomplete: 'off', name: 'password', ...(share.has_password ? { tPlaceholder: 'p.share.password.kept' } : { tPlaceholder: 'p.share.password.none' }) });
    this.open = share.has_password ? check('p.share.password.drop', false) : null;
    this.records = versions && versions.map((version) => this.pickable(version, chosen.has(version.record)));
    this.node = el('div', { class: 'dp-share-form' },
      field('p.share.name', this.name),
      this.records && el('div', { class: 'dp-field', role: 'group', tAria: 'p.share.versions' }, el('span', { class: 'dp-field-name', t: 'p.share.versions' }), el('div', { class: 'dp-picks small' }, ...this.records)),
      this.follow.node, el('span', { class: 'dq-tip dp-under', t: 'p.share.follow.tip' }),
      el('div', { class: 'dp-field', role: 'group', tAria: 'p.share.shown' }, el('span', { class: 'dp-field-name', t: 'p.share.shown' }), el('div', { class: 'dp-row' }, ...this.shown.map(({ node }) => node))),
      el('div', { class: 'dp-pair' }, field('p.share.language', this.language), field('p.share.expiry', this.expiry)),
      field('p.share.password', this.password), this.open?.node);
  }

  pickable({ record, prompt, number }, on) {
    const button = el('button', { type: 'button', class: 'dp-pick', 'data-id': record, title: prompt, 'aria-label': t('p.version', { number }), 'aria-pressed': String(on) }, el('img', { src: thumbOf(record), alt: '', loading: 'lazy' }), el('span', { class: 'dp-pick-number', text: String(number) }));
    button.addEventListener('click', () => button.setAttribute('aria-pressed', String(button.getAttribute('aria-pressed') !== 'true')));
    return button;
  }

  /** The body for the API: of a new link everything, of an old one what was changed. */
  value() {
    const { expiry, password, records } = this;
    const body = {
      name: this.name.value.trim(), follow: this.follow.box.checked, language: this.language.value,
      shown: Object.fromEntries(SHOWN.map((name, i) => [name, this.shown[i].box.checked])),
    };
    if (expiry.value !== 'keep') body.expires_at = expiry.value === 'never' ? null : new Date(Date.now() + Number(expiry.value) * DAY_MS).toISOString();
    if (password.value) body.password = password.value;
    else if (this.open?.box.checked) body.password = null;
    if (records) body.records = records.filter((node) => node.getAttribute('aria-pressed') === 'true').map((node) => node.dataset.id);
    return body;
  }
}

/** Tell the link, this once. */
export function tell({ share, path }) {
  const link = url(path.replace(/^\//, ''));
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);
  const input = el('input', { type: 'text', readonly: true, class: 'dp-link', 'aria-label': t('p.share.link'), onfocus: () => input.select() });
  input.value = link;
  const copy = el('button', { type: 'button', class: 'dp-second', t: 'p.share.copy', autofocus: true, 'data-act': 'copy', onclick: async () => { await copyText(link); copy.textContent = t('s.copied'); } });
  return sheet({ title: 'p.share.ready' }, el('p', { text: t('p.share.once', { name: share.name }) }), el('div', { class: 'dp-link-row' }, input, copy),
    share.has_password ? el('p', { class: 'dq-tip', t: 'p.share.password.tell' }) : null, local ? el('p', { class: 'dq-hint', t: 'p.share.local' }) : null);
}

export class Shares {
  /** @param page {id, project, versions, chosen, changed()} */
  constructor(page) {
    this.page = page;
    this.list = el('div', { class: 'dp-shares' });
    this.node = el('div', {}, el('button', { type: 'button', class: 'dq-act', t: 'p.share.new', 'data-act': 'share', onclick: () => this.create() }), this.list);
    this.shares = [];
  }

  show(shares) {
    this.shares = [...shares].sort((a, b) => Number(isOpen(b)) - Number(isOpen(a)) || b.created_at.localeCompare(a.created_at));
    this.draw();
  }

  relabel() {
    relabel(this.node);
    this.draw();
  }

  draw() {
    this.list.replaceChildren(...(this.shares.length ? this.shares.map((share) => this.card(share)) : [el('p', { class: 'dq-tip dp-none', t: 'p.share.none' })]));
  }

  card(share) {
    const open = isOpen(share);
    const state = share.revoked_at ? t('p.share.revoked') : !open ? t('p.share.expired') : share.expires_at ? t('p.share.until', { date: moment(share.expires_at) }) : t('p.share.never');
    const facts = [plural('p.versions', share.records.length), share.follow && t('p.share.follows'), languageNames()[share.language], ...SHOWN.filter((name) => share.shown[name]).map((name) => t(`p.share.shown.${name}`))].filter(Boolean).join(' · ');
    const thumbs = share.records.filter((record) => this.page.find(record)).slice(-6).map((record) => el('img', { class: 'dp-tiny', src: thumbOf(record), alt: '', loading: 'lazy' }));
    return el('article', { class: `dp-share${open ? '' : ' closed'}`, 'data-share': share.id },
      el('div', { class: 'dp-share-head' }, share.has_password ? sign('lock', 'p.share.locked') : sign('share'), el('strong', { text: share.name }), el('span', { class: 'dq-spring' }),
        share.revoked_at ? null : moreButton('p.more', () => this.acts(share))),
      el('p', { class: 'dq-tip', text: state }), el('p', { class: 'dq-tip', text: facts }), el('div', { class: 'dp-row' }, ...thumbs));
  }

  acts(share) {
    return [
      { t: 'p.share.change', run: () => this.edit(share) },
      { t: 'p.share.token', run: () => this.renew(share) },
      { t: 'p.share.revoke', danger: true, run: () => this.revoke(share) },
    ];
  }

  async create() {
    const { page } = this;
    const versions = page.tree.versions;
    if (!versions.length) { toast(t('p.share.empty')); return; }
    const current = versions.filter((version) => version.current || version.record === page.chosen).map(({ record }) => record);
    const form = new ShareForm({ name: page.project.name, follow: true, shown: { prompts: false, brief: false, labels: false }, language: language(), expires_at: null }, versions, new Set(current));
    const made = await sheet({ title: 'p.share.new', ok: 'p.share.make', wide: true, send: () => post(`projects/${page.id}/shares`, form.value()) }, form.node);
    if (!made) return;
    page.changed();
    await tell(made);
  }

  async edit(share) {
    const form = new ShareForm(share, null, new Set());
    const done = await sheet({ title: 'p.share.change', send: () => patch(`shares/${share.id}`, form.value()) }, form.node);
    if (done) this.page.changed();
  }

  async renew(share) {
    if (!(await confirm({ title: 'p.share.token', words: 'p.share.token.ask', ok: 'p.share.token' }))) return;
    await this.act(async () => tell(await post(`shares/${share.id}/token`)));
  }

  async revoke(share) {
    if (!(await confirm({ title: 'p.share.revoke', words: 'p.share.revoke.ask', ok: 'p.share.revoke' }))) return;
    await this.act(() => post(`shares/${share.id}/revoke`));
  }

  async act(doing) {
    try {
      await doing();
    } catch (error) {
      toast(error.text);
    }
    this.page.changed();
  }
}
