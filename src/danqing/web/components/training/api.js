// What the Training page asks the studio beyond the API's common calls; numbers in words.
import { language, t, url } from '../canvas/base.js';
import { problemText } from '../projects/api.js';

const enc = encodeURIComponent;
export const setPath = (name, rest = '') => `training/sets/${enc(name)}${rest}`;

/** The address of a part of this page. */
export function placeOf(kind, name = null, more = {}) {
  const query = new URLSearchParams(more).toString();
  return url(`training#${kind}${name === null ? '' : `/${enc(name)}`}${query ? `?${query}` : ''}`);
}

/** An address that the API gave, below this studio wherever a proxy put it. */
export const addressOf = (path) => url(path.replace(/^\//, ''));

/** A sample of a run. */
export const sampleOf = (run, file) => url(`api/v1/training/runs/${run}/pictures/${file.split('/').map(enc).join('/')}`);

/** A file that a run made. */
export const fileOf = (run, file) => url(`api/v1/training/runs/${run}/files/${file.split('/').map(enc).join('/')}`);

/** Send files to a set. @param told(share) how much has gone, 0 … 1 @returns the API's report */
export function sendFiles(name, files, query, told = () => {}) {
  return new Promise((done, fail) => {
    const form = new FormData();
    for (const file of files) form.append('files', file, file.name);
    const request = new XMLHttpRequest(); // fetch cannot say how much has gone
    request.open('POST', url(`api/v1/${setPath(name, '/files')}?${new URLSearchParams(query)}`));
    request.upload.onprogress = (event) => event.lengthComputable && told(event.loaded / event.total);
    request.onerror = () => fail({ text: t('e.network'), code: 'network', field: null, status: 0 });
    request.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // a proxy's page: the status says enough
      }
      if (request.status < 300) done(answer);
      else fail({ text: problemText({ ...answer, message: answer.detail }), code: answer.code ?? 'error', field: answer.field ?? null, status: request.status });
    };
    request.send(form);
  });
}

/** Put one file where the API has a place for it. @returns its answer; throws as the API's other calls do */
export async function putFile(path, file, name = file.name ?? 'picture.png') {
  const form = new FormData();
  form.append('file', file, name);
  const answer = await fetch(url(`api/v1/${path}`), { method: 'PUT', body: form }).catch(() => { throw { text: t('e.network'), code: 'network', field: null, status: 0 }; });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw { text: problemText({ ...told, message: told.detail }), code: told.code ?? 'error', field: told.field ?? null, status: answer.status };
  return told;
}

/** A span of time in words: "45 s", "3 min", "1 h 20 min". */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return t('tr.span.s', { s: whole });
  const minutes = Math.round(whole / 60);
  if (minutes < 90) return t('tr.span.min', { m: minutes });
  return t('tr.span.h', { h: Math.floor(minutes / 60), m: minutes % 60 });
}

/** Bytes in words. */
export function size(bytes) {
  const [value, unit] = bytes >= 1e9 ? [bytes / 1e9, 'GB'] : [bytes / 1e6, 'MB'];
  return `${new Intl.NumberFormat(language(), { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value)} ${unit}`;
}

/** A number as the language writes it. */
export const number = (value, digits = 0) => new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(value);

/** A figure of few digits: 0.02315 → "0.0232". */
export const figure = (value) => String(Number(value.toPrecision(3)));

/** Words that fall asleep until nobody asks for `ms`. */
export function later(act, ms) {
  let timer = 0;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => act(...values), ms); };
}
