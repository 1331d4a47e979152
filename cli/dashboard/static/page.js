// Shows the changes that the server sends. A hidden tab closes its connection; without this script the page is complete,
// and does not change by itself.

const live = document.getElementById('live');
const connection = document.getElementById('connection');
const said = document.getElementById('said');
let source = null;
let spoken = words(live);

// What a screen reader says when it changes.
function words(part) {
  const found = part.querySelector('[data-say]');
  return found ? found.textContent.trim() : '';
}

// Replaces only what differs, so that a selection or the focus elsewhere stays.
function show(html) {
  const next = new DOMParser().parseFromString(html, 'text/html').body;
  const focused = live.contains(document.activeElement) ? document.activeElement.id : '';
  const ids = (part) => [...part.children].map((child) => child.id).join(' ');
  if (ids(next) === ids(live)) {
    const children = [...next.children];
    [...live.children].forEach((old, place) => {
      if (old.outerHTML !== children[place].outerHTML) replace(old, children[place]);
    });
  } else {
    live.replaceChildren(...next.childNodes);
  }
  if (focused && document.activeElement?.id !== focused) {
    document.getElementById(focused)?.focus({ preventScroll: true });
  }
  const now = words(live);
  if (now !== spoken) {
    said.textContent = now;
    spoken = now;
  }
}

// A wide table stays where it was scrolled to.
function replace(old, fresh) {
  const left = [...old.querySelectorAll('.wide')].map((wide) => wide.scrollLeft);
  old.replaceWith(fresh);
  fresh.querySelectorAll('.wide').forEach((wide, place) => {
    wide.scrollLeft = left[place] ?? 0;
  });
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
