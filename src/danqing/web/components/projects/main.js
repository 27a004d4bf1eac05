// The Projects page: the studio's header, and below it all projects or one of them, by the address.
import { onLanguage, show, t } from '../canvas/base.js';
import { mount as mountHeader } from '../canvas/header.js';
import { ProjectList } from './list.js';
import { ProjectPage } from './project.js';

const root = document.getElementById('dp-main');
let view = null;

const projectOf = (path) => /\/projects\/([0-9A-Za-z_-]+)\/?$/.exec(path)?.[1] ?? null;

function draw() {
  view?.end();
  const id = projectOf(location.pathname);
  document.title = t('p.title');
  view = id ? new ProjectPage(root, id, go) : new ProjectList(root, go);
}

/** Open an address of this page without loading it anew. */
function go(path) {
  history.pushState(null, '', new URL(path, document.baseURI));
  scrollTo(0, 0);
  draw();
}

addEventListener('popstate', draw);
onLanguage(() => {
  document.title = t('p.title');
  if (view) view.relabel();
  else draw();
  show();
  document.documentElement.classList.add('dq-settled');
});
mountHeader({ element: document.querySelector('.dq-header').parentElement, trigger: () => {} });
