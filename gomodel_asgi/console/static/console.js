// Keeps a page up to date. Without it the page is whole, and new when it is loaded again.
"use strict";

const bar = document.getElementById("live");
const stateText = document.getElementById("live-state");
const pause = document.getElementById("live-pause");
const rows = document.getElementById("rows");
const MOST_ROWS = 500;
const AGAIN = 30000;

let source = null;
let after = bar.dataset.after;
let isPaused = false;
let timer = 0;

function say(text, on) {
  stateText.classList.toggle("on", on);
  if (stateText.textContent !== text) stateText.textContent = text;
}

function address() {
  const query = new URLSearchParams({ page: bar.dataset.page, after });
  return `${bar.dataset.events}?${query}`;
}

function connect() {
  disconnect();
  if (isPaused || document.hidden) return;
  source = new EventSource(address());
  source.addEventListener("open", () => {
    clearTimeout(timer);
    say("Live", true);
  });
  source.addEventListener("error", lost);
  source.addEventListener("rows", (event) => {
    after = event.lastEventId;
    addRows(JSON.parse(event.data));
  });
  source.addEventListener("part", (event) => {
    const part = JSON.parse(event.data);
    const place = document.getElementById(part.name);
    if (place) update(place, parsed(part.html));
  });
}

function disconnect() {
  clearTimeout(timer);
  if (source) source.close();
  source = null;
}

function lost() {
  if (source.readyState === EventSource.CLOSED) return explain();
  clearTimeout(timer); // the browser tries again by itself; say so only if that takes long
  timer = setTimeout(() => say("Not live; trying again", false), 5000);
}

// The server has refused. Only a plain request can read its sentence.
async function explain() {
  disconnect();
  let sentence = "Not live; trying again";
  try {
    const abort = new AbortController();
    const answer = await fetch(address(), { headers: { accept: "application/json" }, signal: abort.signal });
    if (answer.ok) abort.abort();
    else sentence = (await answer.json()).error.message;
    if (answer.status === 404) return say("Not live; you may have to log in again", false);
  } catch {
    // as it is said above
  }
  say(sentence, false);
  timer = setTimeout(connect, AGAIN);
}

function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

function addRows(news) {
  const box = rows.closest(".box");
  const before = box.scrollHeight;
  if (news.whole) rows.replaceChildren();
  for (const html of news.rows.reverse()) {
    const row = parsed(html).firstElementChild;
    row.classList.add("new");
    rows.prepend(row);
  }
  while (rows.children.length > MOST_ROWS) rows.lastElementChild.remove();
  document.getElementById("no-rows").hidden = rows.children.length > 0;
  if (box.scrollTop > 0) box.scrollTop += box.scrollHeight - before; // what is being read stays where it is
}

// Makes the children of `old` those of `fresh`, and leaves alone what is the same: focus and scrolling stay.
function update(old, fresh) {
  const known = new Map();
  for (const child of old.children) if (child.dataset.key) known.set(child.dataset.key, child);
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset ? child.dataset.key : undefined;
    const found = key ? known.get(key) : place;
    if (!found || found.nodeName !== child.nodeName || (!key && found.dataset && found.dataset.key)) {
      old.insertBefore(child, place);
      continue;
    }
    if (found === place) place = place.nextSibling;
    else old.insertBefore(found, place);
    same(found, child);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function same(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  update(old, fresh);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Resume" : "Pause";
  if (isPaused) {
    disconnect();
    say(`Paused at ${new Date().toISOString().slice(11, 19)}`, false);
  } else {
    say("Connecting", false);
    connect();
  }
});
// A tab that nobody looks at needs no connection: browsers have few of them for one host.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", (event) => event.persisted && connect());
connect();
