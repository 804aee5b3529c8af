// The live alert page. The server draws; this puts each piece that changed in the place of the old one.
const page = document.querySelector("[data-live]");
const title = page.dataset.title;
const say = page.querySelector("[data-say]");
const connection = page.querySelector("[data-connection]");
const SAY_EVERY = 10_000; // ms; a screen reader must not talk without end
let said = "", saidAt = 0, ended = false;

const source = new EventSource(page.dataset.live);
source.addEventListener("open", () => connected(true));
source.addEventListener("error", () => {
  if (ended) return;
  connected(false);
  if (source.readyState === EventSource.CLOSED) location.reload(); // signed out: the server shows the way in
});
source.addEventListener("progress", (event) => show(JSON.parse(event.data)));
source.addEventListener("end", (event) => {
  ended = true;
  source.close();
  connection.hidden = true;
  if (JSON.parse(event.data).reason !== "complete") location.reload();
  page.querySelector("[data-until-complete]")?.remove();
});

function show(news) {
  for (const [name, html] of Object.entries(news.parts)) {
    const place = page.querySelector(`[data-part="${name}"]`);
    const fresh = new DOMParser().parseFromString(html, "text/html").body;
    if (place) morphChildren(place, fresh);
  }
  document.title = `${news.says} ${title} – Alert broadcaster`;
  const now = Date.now();
  if (news.says !== said && (news.complete || now - saidAt >= SAY_EVERY)) {
    say.textContent = said = news.says;
    saidAt = now;
  }
}

function connected(yes) {
  connection.hidden = false;
  connection.textContent = yes ? "Live" : "Connection lost, trying again";
  connection.dataset.on = yes;
}

// Changes what differs and leaves the rest, so that focus, selection and opened details stay.
function morphChildren(old, fresh) {
  const from = [...old.childNodes], to = [...fresh.childNodes];
  to.forEach((node, i) => (i < from.length ? morph(from[i], node) : old.append(document.importNode(node, true))));
  from.slice(to.length).forEach((node) => node.remove());
}

function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(document.importNode(fresh, true));
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  } else {
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    }
    morphChildren(old, fresh);
  }
}
