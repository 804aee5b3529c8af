// The service worker: shows alerts, proves that it did, opens the message. It always shows something: a push that shows
// nothing costs the permission (Safari at once, Firefox and Chrome after some).
const GENERIC = { title: "An alert has come in", body: "Open it to read what it says.", navigate: "/enrol", tag: "unreadable" };
const SUBSCRIPTIONS = "/api/v1/push/subscriptions";
const WAITS = [0, 1000, 3000, 8000]; // ms before each try of a receipt; browsers allow a push some 30 s
const REMEMBER = 7 * 86_400_000; // ms
const AT_ONCE = 20;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(Promise.all([self.clients.claim(), sendKept()])));

self.addEventListener("push", (event) => event.waitUntil(onPush(event.data)));

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.navigate));
});

self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(subscribeAgain(event)));

async function onPush(data) {
  const alert = read(data);
  const url = ours(alert.data?.receipt);
  try {
    const repeat = await quietly(seen(alert.tag), false);
    await self.registration.showNotification(alert.title, {
      body: alert.body, tag: alert.tag, lang: alert.lang || "en-GB", dir: "auto",
      requireInteraction: alert.requireInteraction === true,
      renotify: false,
      silent: repeat, // somebody has it, or has put it away: no second sound
      icon: "/static/pwa/icon-192.png", badge: "/static/pwa/badge-96.png",
      data: { navigate: alert.navigate },
    });
    await quietly(remember(alert.tag));
  } catch (error) {
    if (url) await prove(url, { event: "failed", reason: `${error.name}: ${error.message}`.slice(0, 200) });
    throw error;
  }
  await Promise.all([url && prove(url, { event: "shown" }), sendKept(url)]);
}

// Declarative Web Push (https://webkit.org/blog/16535/): {"web_push": 8030, "notification": {…}}
function read(data) {
  try {
    const { web_push: kind, notification } = data.json();
    if (kind !== 8030 || typeof notification.title !== "string" || !notification.title) return GENERIC;
    const text = (value, otherwise) => (typeof value === "string" && value ? value : otherwise);
    return { ...notification, body: text(notification.body, ""), tag: text(notification.tag, GENERIC.tag),
      lang: text(notification.lang, "en-GB"), navigate: text(notification.navigate, GENERIC.navigate) };
  } catch {
    return GENERIC;
  }
}

async function open(navigate) {
  const url = ours(navigate) ?? new URL(GENERIC.navigate, self.location.origin).href;
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = windows.find((client) => client.url === url);
  return there ? there.focus() : self.clients.openWindow(url);
}

// ---- receipts: only the service worker's own word proves that an alert was shown ---------------------------------------

async function prove(url, body) {
  for (const wait of WAITS) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (await post(url, body)) return quietly(store("receipts", "readwrite", (s) => s.delete(url)));
  }
  return quietly(store("receipts", "readwrite", (s) => s.put({ body, at: Date.now() }, url)));
}

async function sendKept(except) {
  const urls = await quietly(store("receipts", "readonly", (s) => s.getAllKeys(null, AT_ONCE)), []);
  for (const url of urls.filter((u) => u !== except)) {
    const one = await quietly(store("receipts", "readonly", (s) => s.get(url)));
    if (one && Date.now() - one.at < REMEMBER && !(await post(url, one.body))) return; // still offline
    await quietly(store("receipts", "readwrite", (s) => s.delete(url)));
  }
}

// Whether it is settled: taken, or refused in a way that another try does not change.
async function post(url, body) {
  try {
    const answer = await fetch(url, { method: "POST", keepalive: true, credentials: "omit", redirect: "error",
      headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return answer.ok || (answer.status < 500 && ![408, 425, 429].includes(answer.status));
  } catch {
    return false;
  }
}

// ---- a browser that renews its subscription ----------------------------------------------------------------------------

async function subscribeAgain(event) {
  const enrolment = await store("kept", "readonly", (s) => s.get("enrolment"));
  if (!enrolment) return;
  let fresh = event.newSubscription;
  if (!fresh) {
    const given = await (await fetch("/api/v1/push/key", { cache: "no-store" })).json();
    const text = atob((given.public_key).replace(/-/g, "+").replace(/_/g, "/"));
    const applicationServerKey = Uint8Array.from(text, (c) => c.charCodeAt(0));
    fresh = await self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
  }
  const { endpoint, keys, expirationTime } = fresh.toJSON();
  await prove(new URL(SUBSCRIPTIONS, self.location.origin).href, { endpoint, keys, expirationTime: expirationTime ?? null, enrolment });
}

// ---- what it remembers -------------------------------------------------------------------------------------------------

async function seen(tag) {
  if (tag === GENERIC.tag) return false;
  return (await store("shown", "readonly", (s) => s.get(tag))) !== undefined;
}

const remember = (tag) => store("shown", "readwrite", (s) => {
  const cursor = s.openCursor();
  cursor.onsuccess = () => {
    if (!cursor.result) return;
    if (Date.now() - cursor.result.value > REMEMBER) cursor.result.delete();
    cursor.result.continue();
  };
  return s.put(Date.now(), tag);
});

// The same database as store.js: kept (the enrolment token), shown (tag: when), receipts (address: what could not be sent).
async function store(name, mode, work) {
  const database = await new Promise((resolve, reject) => {
    const request = indexedDB.open("broadcaster", 1);
    request.onupgradeneeded = () => ["kept", "shown", "receipts"].forEach((n) => request.result.createObjectStore(n));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(name, mode);
      const request = work(transaction.objectStore(name));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

// Memory is a help: where the browser denies it, the alert is shown all the same.
const quietly = (promise, otherwise) => promise.catch(() => otherwise);

const ours = (address) => {
  try {
    const url = new URL(address, self.location.origin);
    return url.origin === self.location.origin ? url.href : null;
  } catch {
    return null;
  }
};
