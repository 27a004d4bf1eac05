// Errors beside the field that caused them; they go away when the field is touched.
import { el, t } from './base.js';

/** What holds a control; of `controls.0.params`, which has no place of its own, the card. */
const wrapper = (name) =>
  document.getElementById(`f-${name}`) ?? (name.includes('.') ? wrapper(name.slice(0, name.lastIndexOf('.'))) : null);

export function clearErrors() {
  for (const node of document.querySelectorAll('.dq-field-error')) node.remove();
  for (const node of document.querySelectorAll('[aria-invalid]')) {
    node.removeAttribute('aria-invalid');
    node.removeAttribute('aria-describedby');
  }
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/** Unfold a section; gives the wrapper of one of its controls. */
export async function unfold(section, name) {
  const head = document.querySelector(`#sec-${section} > button.label-wrap`);
  if (head && !head.classList.contains('open')) head.click();
  wrapper(name)?.closest('details')?.setAttribute('open', '');
  for (let tries = 0; tries < 40 && !wrapper(name)?.offsetParent; tries += 1) await wait(25);
  return wrapper(name);
}

/** Shows {field, section, text, original} at its field, unfolding its section; false where the field has no place. */
export async function showError(error) {
  clearErrors();
  const name = error.field === 'image' || error.field === 'mask' ? 'mode' : error.field;
  if (!name) return false;
  const field = error.section ? await unfold(error.section, name) : wrapper(name);
  if (!field?.offsetParent) return false; // nobody would see it there
  const id = `error-${name}`;
  const note = el('div', { class: 'dq-field-error', id, role: 'alert' }, el('span', { text: error.text }));
  if (error.original && error.original !== error.text && document.documentElement.lang !== 'en') {
    note.append(el('details', {}, el('summary', { text: t('s.original') }), el('span', { lang: 'en', text: error.original })));
  }
  const row = field.closest('.dq-numbers');
  if (row) row.after(note);
  else field.append(note);
  const input = field.querySelector('input, textarea, select');
  input?.setAttribute('aria-invalid', 'true');
  input?.setAttribute('aria-describedby', id);
  input?.focus({ preventScroll: true });
  field.scrollIntoView({ block: 'center', behavior: 'smooth' });
  field.addEventListener('input', clearErrors, { once: true });
  return true;
}

/** Resolves with the first element of a selector, now or when it comes. */
export function arrival(selector) {
  return new Promise((done) => {
    const look = () => {
      const found = document.querySelector(selector);
      if (found) done(found);
      return Boolean(found);
    };
    if (look()) return;
    const watch = new MutationObserver(() => look() && watch.disconnect());
    watch.observe(document.body, { subtree: true, childList: true });
  });
}

/** Fold a section, and say from now on whether it is open (Gradio's folds do not); resolves when it is folded. */
async function fold(section) {
  const head = await arrival(`#sec-${section} > button.label-wrap`);
  await new Promise((done) => {
    const tell = () => {
      const open = head.classList.contains('open');
      head.setAttribute('aria-expanded', String(open));
      if (!open) done();
    };
    new MutationObserver(tell).observe(head, { attributes: true, attributeFilter: ['class'] });
    if (head.classList.contains('open')) head.click();
    else tell();
  });
}

export const foldSections = (sections) => Promise.all(sections.map(fold));

const PREFIX = /^(number input|range slider) for /;

/** Gradio names its sliders in English, and shows the values of chips as tooltips: the label alone is enough. */
export function tidyForm() {
  const form = document.getElementById('dq-form');
  const tidy = () => {
    for (const input of form.querySelectorAll('input[aria-label]')) {
      const name = input.getAttribute('aria-label');
      if (PREFIX.test(name)) input.setAttribute('aria-label', name.replace(PREFIX, ''));
    }
    for (const input of form.querySelectorAll('.dq-chips input[title]')) input.removeAttribute('title');
  };
  new MutationObserver(tidy).observe(form, { subtree: true, childList: true, attributeFilter: ['aria-label', 'title'] });
  tidy();
}

/** The preset that a size belongs to, within what rounding to 16 px makes of it, or null. */
export function nearestRatio(width, height) {
  const presets = { '1:1': 1, '3:4': 3 / 4, '4:3': 4 / 3, '9:16': 9 / 16, '16:9': 16 / 9 };
  const ratio = Number(width) / Number(height);
  const found = Object.entries(presets).find(([, wanted]) => Math.abs(Math.log(ratio / wanted)) < 0.06);
  return found ? found[0] : null;
}

/** The size that will be painted, or {} where it is not one yet. */
export function paintedSize() {
  const [width, height] = ['width_px', 'height_px'].map((name) => Number(document.querySelector(`#f-${name} input`)?.value));
  const good = (side) => Number.isInteger(side) && side >= 16 && side <= 4096;
  return good(width) && good(height) ? { width_px: width, height_px: height } : {};
}
