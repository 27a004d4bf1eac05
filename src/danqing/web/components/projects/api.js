// The studio's native API as the Projects page uses it; an error is thrown as {text, code, field, status} in the page's language.
import { known, language, t, url } from '../canvas/base.js';

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? '' : '.'}` : '');

const tellers = [];
/** Let more be known of what the server says. @param teller(sentence, allowed) gives it in the page's language, or null */
export const teach = (teller) => { tellers.push(teller); };

/** What to tell a person of a problem: the server speaks English, other languages have a sentence for each code. */
function said(problem) {
  const key = `e.code.${problem.code}`;
  if (language() === 'en' && problem.detail) return [problem.detail, problem.next_step].map(sentence).filter(Boolean).join(' ');
  const own = tellers.map((tell) => tell(problem.detail ?? '', problem.allowed ?? '')).find(Boolean);
  if (own) return own;
  return known(key) ? t(key) : problem.detail ?? t('e.code.error');
}

/** What to tell of an error that a job, an asking or a refinement ended with. */
export function problemText(error) {
  const { code, message, field, allowed, next_step: step } = error ?? {};
  const own = `e.reviewer.${code}`;
  if (language() !== 'en' && field === 'reviewer' && known(own)) return t(own);
  return said({ code, detail: message, allowed, next_step: step });
}

// Seeds go to 2⁶⁴, past what a number holds in JavaScript: long ones are strings here and numbers on the way.
const LONG_IN = /"(seed|old|new)":\s*(\d{16,})/g;
const LONG_OUT = /"seed":"(\d{16,})"/g;
const parsed = (text) => JSON.parse(text.replace(LONG_IN, '"$1":"$2"'));
const written = (body) => JSON.stringify(body).replace(LONG_OUT, '"seed":$1');

async function call(method, path, body) {
  let answer;
  try {
    answer = await fetch(url(`api/v1/${path}`), {
      method,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : written(body),
    });
  } catch {
    throw { text: t('e.network'), code: 'network', field: null, status: 0 };
  }
  const told = await answer.text().then(parsed).catch(() => ({}));
  if (!answer.ok) throw { text: said(told), code: told.code ?? 'error', field: told.field ?? null, status: answer.status };
  return told;
}

export const get = (path) => call('GET', path);
export const post = (path, body = {}) => call('POST', path, body);
export const patch = (path, body) => call('PATCH', path, body);
export const remove = (path) => call('DELETE', path);

export const pictureOf = (record) => url(`web/records/${record}/picture`);
export const thumbOf = (record) => url(`web/records/${record}/thumbnail`);

/** The small picture of a reference: `record:ID` or `sha256:DIGEST`. */
export function referenceOf(ref) {
  const [kind, name] = ref.split(':');
  return kind === 'record' ? thumbOf(name) : url(`web/uploads/${name}`);
}

/** Every page of a list: `key` names the items of an answer. At most `most` of them. */
export async function all(path, key, most = 1000) {
  const found = [];
  let before = null;
  do {
    const mark = path.includes('?') ? '&' : '?';
    const answer = await get(`${path}${before ? `${mark}before=${before}` : ''}`);
    found.push(...answer[key]);
    before = answer.next;
  } while (before && found.length < most);
  return found;
}

const KINDS = ['review', 'suggestion', 'version', 'removed', 'shown', 'hidden', 'share', 'project', 'refinement'];

/** Listen to a project, live; `opened` hears of every (new) connection. Gives what closes it. */
export function listen(project, { opened, happened, lost }) {
  const source = new EventSource(url(`api/v1/projects/${project}/events?after=-1`));
  source.onopen = opened;
  source.onerror = lost;
  for (const kind of KINDS) source.addEventListener(kind, (message) => happened(kind, JSON.parse(message.data)));
  return () => source.close();
}

/** The languages of the page and how each calls itself, as the header offers them. */
export const languageNames = () => Object.fromEntries([...document.querySelectorAll('.dq-language option')].map(({ value, textContent }) => [value, textContent]));

/** Day and time of an ISO moment. */
export const moment = (iso) => new Intl.DateTimeFormat(language(), { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(iso));

const SPANS = [['day', 86400], ['hour', 3600], ['minute', 60]];
/** How long ago a moment was, in words. */
export function since(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const words = new Intl.RelativeTimeFormat(language(), { numeric: 'auto' });
  for (const [unit, length] of SPANS) {
    if (Math.abs(seconds) >= length) return words.format(Math.trunc(seconds / length), unit);
  }
  return Math.abs(seconds) < 20 ? t('p.now') : words.format(Math.trunc(seconds), 'second');
}
