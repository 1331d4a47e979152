// Shows the changes that the server sends. A hidden tab closes its connection; without this script the page is complete,
// and does not change by itself.

const live = document.getElementById('live');
const connection = document.getElementById('connection');
const said = document.getElementById('said');

// Milliseconds between two announcements of a screen reader.
const QUIET = 10000;

let source = null;
let spoken = words(live);
let quiet = 0;

// What a screen reader says when it changes.
function words(part) {
  const found = part.querySelector('[data-say]');
  return found ? found.textContent.trim() : '';
}

// Whatever changes in between is left out, but for the last change.
function announce() {
  const now = words(live);
  if (quiet !== 0 || now === spoken) return;
  said.textContent = now;
  spoken = now;
  quiet = setTimeout(() => {
    quiet = 0;
    announce();
  }, QUIET);
}

function show(html) {
  const focused = live.contains(document.activeElement) ? document.activeElement.id : '';
  const fresh = document.createElement('template');
  fresh.innerHTML = html;
  mend(live, fresh.content);
  if (focused && document.activeElement?.id !== focused) {
    (document.getElementById(focused) ?? document.getElementById('main')).focus({ preventScroll: true });
  }
  announce();
}

// Gives a node the content of another one. What is the same stays: the focus, a selection, how far a table is scrolled.
function mend(old, fresh) {
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((child, place) => {
    const present = before[place];
    if (present === undefined) old.append(child);
    else if (present.isEqualNode(child)) return;
    else if (present.nodeType !== Node.ELEMENT_NODE || present.nodeName !== child.nodeName) present.replaceWith(child);
    else {
      attributes(present, child);
      mend(present, child);
    }
  });
  before.slice(after.length).forEach((child) => child.remove());
}

function attributes(old, fresh) {
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const name of fresh.getAttributeNames()) {
    const value = fresh.getAttribute(name);
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function say(text) {
  if (connection.textContent !== text) connection.textContent = text;
}

function open() {
  if (source !== null || document.hidden) return;
  source = new EventSource(`/live${location.pathname}${location.search}`);
  source.onopen = () => say('');
  source.onmessage = (event) => show(event.data);
  source.onerror = () => {
    say(
      source.readyState === EventSource.CLOSED
        ? 'This page does not change any more. Reload it, or run "kubectl operon dashboard" again and open the address that it prints.'
        : 'The connection to "kubectl operon dashboard" is lost and is tried again. What you see may be out of date.',
    );
  };
}

function close() {
  source?.close();
  source = null;
}

document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
addEventListener('pagehide', close);
addEventListener('pageshow', open);
open();
