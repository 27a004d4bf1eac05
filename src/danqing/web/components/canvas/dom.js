// The page's words and the elements that carry them. The client's page has this file too, beside a base.js of its own.

const KINDS = { t: null, tAria: 'aria-label', tTitle: 'title', tPlaceholder: 'placeholder', tLabel: 'label' };
let words = {};

/** From now on these are the words; what stands on the page is told by `relabel`. */
export function setWords(found) {
  words = found;
}

/** The string of a key in the page's language, with its {placeholders} filled. */
export function t(key, values = {}) {
  let text = words[key] ?? key;
  for (const [name, value] of Object.entries(values)) text = text.replaceAll(`{${name}}`, String(value));
  return text;
}

/** Whether the page's files have words for a key. */
export const known = (key) => key in words;

/** Write the words of every element below `root` that names a key. */
export function relabel(root) {
  for (const [data, attribute] of Object.entries(KINDS)) {
    const selector = `[data-${data.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}]`;
    for (const node of root.querySelectorAll(selector)) {
      if (!node.dataset[data]) continue;
      const text = t(node.dataset[data]);
      if (attribute) node.setAttribute(attribute, text);
      else node.textContent = text;
    }
  }
}

/** An element with properties, keys of words and children: el('button', {class: 'x', t: 'key', onclick: f}, child, …). */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in KINDS) {
      node.dataset[name] = value;
      if (KINDS[name]) node.setAttribute(KINDS[name], t(value));
      else node.textContent = t(value);
    } else if (name === 'text') node.textContent = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}
