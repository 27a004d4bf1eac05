// The header: queue length, language, light and dark.
import { ICONS, language, onLanguage, setLanguage, settle, show, t, url } from './base.js';

const STORED = { language: 'danqing.language', theme: 'danqing.theme' };

const stored = (name) => {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
};
const store = (name, value) => {
  try {
    localStorage.setItem(name, value);
  } catch {
    // a browser that keeps nothing still paints
  }
};

/** The best of our languages for what the browser asks for. */
export function chosenLanguage(preferred = navigator.languages ?? [navigator.language]) {
  for (const tag of preferred) {
    const parts = tag.toLowerCase().split('-');
    if (parts[0] === 'zh') {
      const traditional = parts.some((part) => ['hant', 'tw', 'hk', 'mo'].includes(part));
      return traditional && !parts.includes('hans') ? 'zh-Hant' : 'zh-Hans';
    }
    if (parts[0] === 'en') return 'en';
  }
  return 'en';
}

export function mount({ element, trigger }) {
  const select = element.querySelector('.dq-language');
  const theme = element.querySelector('.dq-theme');
  const queue = element.querySelector('.dq-queue');
  let waiting = null;
  let asked = 0;
  let told = 0;

  const showQueue = () => {
    queue.classList.toggle('busy', waiting > 0);
    if (waiting === null) queue.textContent = '';
    else if (waiting < 0) queue.textContent = t('header.offline');
    else queue.textContent = waiting ? t('header.queue', { count: waiting }) : t('header.queue.idle');
  };
  const speak = async (tag, first = false) => {
    select.value = tag;
    if (first) setTimeout(show, 8000); // a form in English is better than none
    if (!(await setLanguage(tag))) return;
    if (tag === 'en' && first) settle('words');
    else trigger('language', { tag });
  };
  onLanguage(() => {
    select.setAttribute('aria-label', t('header.language'));
    for (const name of ['aria-label', 'title']) theme.setAttribute(name, t('header.theme'));
    showQueue();
  });

  document.addEventListener('dq:spoken', ({ detail: tag }) => {
    setTimeout(settle, 0, 'words'); // the labels came with it
    if (tag !== language()) trigger('language', { tag: language() }); // it answers an older question
  });
  select.addEventListener('change', () => {
    store(STORED.language, select.value);
    speak(select.value);
  });
  const paintTheme = (dark) => {
    document.body.classList.toggle('dark', dark);
    document.documentElement.style.colorScheme = dark ? 'dark' : 'light';
    theme.innerHTML = dark ? ICONS.light : ICONS.dark;
    theme.setAttribute('aria-pressed', String(dark));
  };
  theme.addEventListener('click', () => {
    const dark = !document.body.classList.contains('dark');
    store(STORED.theme, dark ? 'dark' : 'light');
    paintTheme(dark);
  });
  paintTheme((stored(STORED.theme) ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark');

  const poll = async () => {
    asked += 1;
    const turn = asked;
    const found = await fetch(url('web/status')).then((answer) => answer.json()).then((status) => status.waiting).catch(() => -1);
    if (turn < told) return; // a later question was answered before
    told = turn;
    waiting = found;
    showQueue();
  };
  document.addEventListener('dq:queue', poll);
  setInterval(() => document.hidden || poll(), 4000);
  poll();

  const tags = [...select.options].map((option) => option.value);
  const kept = stored(STORED.language);
  speak(tags.includes(kept) ? kept : chosenLanguage(), true);
}
