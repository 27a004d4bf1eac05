// Tags and words of networks in the text of a brief: found, put in at a place, weighed, taken out. No page in here.
const FAMILY = { lora: 'lora|lyco|locon', hypernetwork: 'hypernet' };
const TAG = { lora: 'lora', hypernetwork: 'hypernet' };
const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const number = (text) => (/^\s*-?(\d+\.?\d*|\.\d+)\s*$/.test(text) ? Number(text) : null);
export const written = (weight) => String(Math.round(weight * 100) / 100);

/** Where a network stands in a text: {start, end, weight}; a weight of null is one that a single number cannot say. */
export function find(text, { kind, names }) {
  const any = names.map(escape).join('|');
  if (kind === 'embedding') {
    const weighed = new RegExp(`\\(\\s*(?:${any})\\s*:([^()]*)\\)`, 'iu').exec(text);
    if (weighed) return { start: weighed.index, end: weighed.index + weighed[0].length, weight: number(weighed[1]) };
    const bare = new RegExp(`(?<![\\p{L}\\p{N}_-])(?:${any})(?![\\p{L}\\p{N}_-])`, 'iu').exec(text);
    return bare && { start: bare.index, end: bare.index + bare[0].length, weight: 1 };
  }
  const found = new RegExp(`<\\s*(?:${FAMILY[kind]})\\s*:\\s*(?:${any})\\s*(?::([^<>]*))?>`, 'iu').exec(text);
  if (!found) return null;
  return { start: found.index, end: found.index + found[0].length, weight: found[1] === undefined ? 1 : number(found[1]) };
}

const piece = ({ kind, name }, weight) => {
  if (kind !== 'embedding') return `<${TAG[kind]}:${name}:${written(weight)}>`;
  return weight === 1 ? name : `(${name}:${written(weight)})`;
};

/** Whether all of these words stand in a text, as a part between commas or anywhere. */
const has = (text, words) => text.toLowerCase().includes(words.toLowerCase());

/**
 * A text with a network put in where the caret is: {text, caret, seam}. Words go before a tag, so that they follow a
 * comma; the seam is what joined it, for `take`.
 * @param what {kind, name, words: trigger words} @param place {start, end} of the selection
 */
export function put(text, what, weight, { start, end }) {
  const before = text.slice(0, start).replace(/\s+$/, '');
  const after = text.slice(end);
  const words = what.words && !has(text, what.words) ? what.words : '';
  const tag = piece(what, weight);
  const listed = words || what.kind === 'embedding';
  const joint = before === '' ? '' : !listed || /[,，]$/.test(before) ? ' ' : ', ';
  const added = [words, tag].filter(Boolean).join(' ');
  const next = after === '' || /^[\s,，.;:)\]|]/.test(after) ? '' : what.kind === 'embedding' ? ', ' : ' ';
  const head = before + joint + added;
  const seam = { before: joint, after: next, was: text.slice(before.length, start) };
  return { text: head + next + after, caret: (head + next).length, seam };
}

/** The text with another weight for a network that stands in it. */
export function weigh(text, what, weight) {
  const found = find(text, what);
  return found ? text.slice(0, found.start) + piece(what, weight) + text.slice(found.end) : text;
}

/** The text without a network, and without the words that stand right before its tag because they were put there. */
export function take(text, what, seam = null) {
  const found = find(text, what);
  if (!found) return text;
  let before = text.slice(0, found.start).replace(/\s+$/, '');
  const after = text.slice(found.end);
  if (what.words && before.toLowerCase().endsWith(what.words.toLowerCase())) {
    before = before.slice(0, before.length - what.words.length);
  }
  if (seam && before.trimEnd().endsWith(seam.before.trim()) && after.startsWith(seam.after)) {
    const head = before.trimEnd();
    return head.slice(0, head.length - seam.before.trim().length) + seam.was + after.slice(seam.after.length);
  }
  return tidy(before, after);
}

/** A text without some words that were added to it. */
export function without(text, words) {
  const start = text.toLowerCase().indexOf(words.toLowerCase());
  return words && start >= 0 ? tidy(text.slice(0, start), text.slice(start + words.length)) : text;
}

/** Two ends joined where something between them went: no comma and no blank is left over. */
function tidy(before, after) {
  const left = before.replace(/[\s,，]+$/, '');
  const right = after.replace(/^[\s,，]+/, '');
  if (!left || !right) return left + right;
  const comma = /[,，]\s*$/.test(before) || /^\s*[,，]/.test(after);
  return left + (comma ? ', ' : ' ') + right;
}
