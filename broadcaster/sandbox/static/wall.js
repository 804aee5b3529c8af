// The wall. Tiles are plain buttons, made once and then only re-classed, so that thousands stay smooth.
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const NAMES = { sms: "Phones", slack: "Slack", push: "Browsers" };
  const BY = { sms: "SMS", slack: "Slack", push: "Browser" };
  const $ = (id) => document.getElementById(id);
  const groups = {};
  let tiles = [], chosen = null, lastTaken = null, lastAt = 0, drawn = "";

  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const short = (t) => t.name || (t.address.length > 24 ? "…" + t.address.slice(-12) : t.address);
  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

  function group(channel) {
    if (groups[channel]) return groups[channel];
    const box = make("div", "group " + channel);
    const head = make("h2", "", NAMES[channel]);
    const count = make("small");
    head.append(count);
    const grid = make("div", "grid");
    box.append(head, grid);
    groups[channel] = { box, grid, count, size: 0, lit: 0, again: 0 };
    for (const name of ["sms", "slack", "push"]) if (groups[name]) $("groups").append(groups[name].box);
    return groups[channel];
  }

  function stateOf(t) {
    if (t.duplicates) return "dup";
    if (t.delivered) return t.delivered > 1 ? "lit again" : "lit";
    if (t.failed) return "bad";
    return t.taken ? "wait" : "";
  }
  const isLit = (state) => state === "dup" || state.startsWith("lit");
  const WORDS = { dup: "got a message twice", lit: "message arrived", "lit again": "a further message arrived", bad: "failed", wait: "on its way", "": "nothing yet" };

  function put(row, quiet) {
    const [index, channel, address, name, taken, delivered, duplicates, failed] = row;
    let t = tiles[index];
    if (!t) {
      t = tiles[index] = { node: make("button", "tile"), state: "", delivered: 0 };
      t.node.type = "button";
      t.node.tabIndex = -1;
      t.node.dataset.index = index;
      t.node.append(make("span"));
      const g = group(channel);
      if (!g.size) t.node.tabIndex = 0; // each group is one tab stop; arrows move within
      g.size += 1;
      g.grid.append(t.node);
    }
    const more = delivered > t.delivered;
    Object.assign(t, { channel, address, name, taken, delivered, duplicates, failed });
    const state = stateOf(t), who = short(t);
    groups[channel].lit += isLit(state) - isLit(t.state);
    groups[channel].again += (state === "lit again") - (t.state === "lit again");
    if (t.who !== who) { t.who = who; t.node.firstChild.textContent = who; }
    if (state !== t.state || !t.node.hasAttribute("aria-label")) {
      t.state = state;
      t.node.className = "tile " + state;
    }
    t.node.setAttribute("aria-label", who + ": " + WORDS[state]);
    t.node.title = who;
    if (more && !quiet) {
      t.node.classList.remove("flash");
      void t.node.isConnected;
      t.node.classList.add("flash");
      if (chosen === t) show(t);
    }
  }

  function clear() {
    tiles = [];
    chosen = showing = lastTaken = null;
    drawn = "another book";
    for (const name of Object.keys(groups)) { groups[name].box.remove(); delete groups[name]; }
  }

  function counts(summary) {
    for (const [channel, numbers] of Object.entries(summary.channels))
      for (const name of ["taken", "delivered", "duplicates"]) {
        const node = document.querySelector(`[data-count="${channel}.${name}"]`);
        node.textContent = numbers[name].toLocaleString("en-GB");
        if (name === "duplicates") node.classList.toggle("alarm", numbers[name] > 0);
      }
    let total = 0;
    for (const g of Object.values(groups)) {
      const more = g.again ? `, ${g.again.toLocaleString("en-GB")} with a further message` : "";
      g.count.textContent = `${g.lit.toLocaleString("en-GB")} of ${g.size.toLocaleString("en-GB")} lit${more}`;
    }
    for (const c of Object.values(summary.channels)) total += c.taken;
    const now = performance.now();
    if (lastTaken !== null && total > lastTaken) $("pace").textContent = Math.round((total - lastTaken) / ((now - lastAt) / 1000)).toLocaleString("en-GB") + " a second";
    else if (lastTaken !== null) $("pace").textContent = "";
    lastTaken = total; lastAt = now;
    const hidden = summary.known - tiles.length;
    $("more").hidden = hidden <= 0;
    $("more").textContent = `and ${hidden.toLocaleString("en-GB")} more, counted above but not drawn`;
    $("empty").hidden = tiles.length > 0;
    $("groups").className = tiles.length <= 40 ? "few" : tiles.length <= 250 ? "mid" : tiles.length > 600 ? "many" : "";
  }

  function bubble(channel, text) { return make("span", "bubble " + channel, text === null ? "(encrypted: only the browser can read it)" : text); }

  function table(latest) {
    const key = latest.map((e) => e.seq + e.status).join();
    if (key === drawn) return;
    drawn = key;
    const rows = latest.map((e) => {
      const row = make("tr"), cell = make("td");
      cell.append(bubble(e.channel, e.text));
      row.append(make("td", "", clock(e.time)), make("td", "", BY[e.channel]), make("td", "", e.who), cell, make("td", "", e.status));
      return row;
    });
    if (!rows.length) { const row = make("tr"), cell = make("td", "", "No message yet."); cell.colSpan = 5; row.append(cell); rows.push(row); }
    $("rows").replaceChildren(...rows);
  }

  // Until somebody chooses a tile, the screen beside the wall follows the newest message, once a second at most.
  let followed = -1000, showing = null;
  function follow(latest) {
    const t = !chosen && latest.length && tiles[latest[0].tile];
    if (!t || t === showing || performance.now() - followed < 1000) return;
    followed = performance.now();
    show(t);
  }

  async function show(t) {
    showing = t;
    const answer = await fetch(`/_sandbox/messages?channel=${t.channel}&address=${encodeURIComponent(t.address)}`);
    if (!answer.ok || showing !== t) return;
    const body = await answer.json();
    const device = $("device");
    device.className = "device " + t.channel;
    const parts = [make("h2", "", t.who), make("p", "addr", t.name ? t.address : BY[t.channel])];
    for (const item of body.items) {
      const block = make("div", "msg");
      block.append(bubble(t.channel, item.text), make("time", "", clock(item.time) + " · " + item.status));
      parts.push(block);
    }
    if (!body.items.length) parts.push(make("p", "hint", "Nothing yet."));
    device.replaceChildren(...parts);
  }

  function choose(node) {
    const t = tiles[Number(node.dataset.index)];
    if (!t || chosen === t) return;
    if (chosen) chosen.node.removeAttribute("aria-current");
    chosen = t;
    $("detail").setAttribute("aria-live", "polite"); // what was chosen is read out; what is merely followed is not
    node.setAttribute("aria-current", "true");
    show(t);
  }

  function neighbour(node, key) {
    const all = [...node.parentElement.children], at = all.indexOf(node);
    if (key === "ArrowRight") return all[at + 1];
    if (key === "ArrowLeft") return all[at - 1];
    if (key === "Home") return all[0];
    if (key === "End") return all[all.length - 1];
    const step = Math.max(1, all.filter((n) => n.offsetTop === all[0].offsetTop).length);
    return key === "ArrowDown" ? all[at + step] : key === "ArrowUp" ? all[at - step] : null;
  }

  $("groups").addEventListener("click", (event) => { const node = event.target.closest(".tile"); if (node) choose(node); });
  $("groups").addEventListener("focusin", (event) => { if (event.target.matches(".tile")) choose(event.target); });
  $("groups").addEventListener("keydown", (event) => {
    if (!event.target.matches(".tile")) return;
    const next = neighbour(event.target, event.key);
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  const source = new EventSource("/_sandbox/stream");
  const live = (on) => { $("live").textContent = on ? "Live" : "Not live"; $("live").classList.toggle("on", on); };
  source.onopen = () => live(true);
  source.onerror = () => live(false);
  let book = "";
  const feed = (json, quiet) => {
    const body = JSON.parse(json);
    if (body.book !== book) { book = body.book; clear(); }
    for (const row of body.tiles) put(row, quiet);
    counts(body.summary);
    table(body.latest);
    follow(body.latest);
  };
  feed($("state").textContent, true); // what the page came with, so that it is never empty first
  source.addEventListener("all", (event) => feed(event.data, true));
  source.addEventListener("some", (event) => feed(event.data, false));
})();
