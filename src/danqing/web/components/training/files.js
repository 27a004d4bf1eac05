// Pictures, captions, ZIPs and folders from outside: dropped or chosen; which of them a set can take.
import { el, toast, t } from '../canvas/base.js';

const TAKEN = /\.(png|jpe?g|webp|bmp|gif|tiff?|txt|caption|json|jsonl|zip)$/i;
const PICTURE = /\.(png|jpe?g|webp|bmp|gif|tiff?)$/i;
const AT_ONCE = 100;
const READ_AT_ONCE = 100; // a browser gives a folder's entries in pieces

/** Whether a drag brings files. */
export const bringsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');

/** All files of a drop, those of folders too: a set takes what it knows of them. */
export async function dropped(event) {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return wanted([...event.dataTransfer.files]);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return wanted(found);
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((done) => entry.file(done, () => done(null)));
    if (file) found.push(file);
    return;
  }
  const reader = entry.createReader();
  for (let turn = 0; turn < 20000 / READ_AT_ONCE; turn += 1) {
    const some = await new Promise((done) => reader.readEntries(done, () => done([])));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

const wanted = (files) => files.filter((file) => TAKEN.test(file.name) && !file.name.startsWith('.'));

/** Pieces that are sent one after the other: ZIPs alone, captions with their pictures. */
export function pieces(files) {
  const zips = files.filter((file) => /\.zip$/i.test(file.name)).map((file) => [file]);
  const rest = files.filter((file) => !/\.zip$/i.test(file.name)).sort((a, b) => a.name.localeCompare(b.name));
  const found = [];
  while (rest.length) {
    const piece = rest.splice(0, AT_ONCE);
    const stem = (file) => file.name.replace(/\.[^.]+$/, '');
    while (rest.length && stem(rest[0]) === stem(piece.at(-1))) piece.push(rest.shift());
    found.push(piece);
  }
  return [...zips, ...found];
}

/** Whether a file is a picture by its name. */
export const isPicture = (file) => PICTURE.test(file.name);

/** How many pictures are among files; a ZIP counts as one thing. */
export const pictureCount = (files) => files.filter((file) => PICTURE.test(file.name) || /\.zip$/i.test(file.name)).length;

/** Two buttons that choose files or a whole folder; `take` gets the files. */
export function chooser(take) {
  const input = (more) => {
    const node = el('input', { type: 'file', multiple: true, class: 'dq-offscreen', tabindex: '-1', 'aria-hidden': 'true', ...more });
    node.addEventListener('change', () => {
      const files = wanted([...node.files]);
      node.value = '';
      if (files.length) take(files);
      else toast(t('tr.files.none'));
    });
    return node;
  };
  const files = input({ 'data-purpose': 'set-files' });
  const folder = input({ webkitdirectory: true, 'data-purpose': 'set-folder' });
  const button = (key, to) => el('button', { type: 'button', class: 'dq-act', t: key, onclick: () => to.click() });
  return el('span', { class: 'dp-row' }, files, folder, button('tr.files.choose', files), button('tr.files.folder', folder));
}

/** Let a place take drops of files while it lies on the page. @param take(files) */
export function takesDrops(node, take) {
  let depth = 0;
  const mark = (step) => { depth = Math.max(0, depth + step); node.classList.toggle('dropping', depth > 0); };
  node.addEventListener('dragenter', (event) => { if (bringsFiles(event)) { event.preventDefault(); mark(1); } });
  node.addEventListener('dragover', (event) => bringsFiles(event) && event.preventDefault());
  node.addEventListener('dragleave', (event) => bringsFiles(event) && mark(-1));
  node.addEventListener('drop', async (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    mark(0);
    const files = await dropped(event);
    if (files.length) take(files);
    else toast(t('tr.files.none'));
  });
}
