// Turning alerts on and off in this browser. The words are in the page; this decides which of them to show.
import { keep, kept, forget } from "./store.js";

const SUBSCRIPTIONS = "/api/v1/push/subscriptions";
const page = document.querySelector("[data-enrolment]");
const token = page.dataset.enrolment;
let retry = begin;

const actions = { "turn-on": turnOn, "turn-off": turnOff, test: showTest, reload: () => location.reload(), again: () => retry() };
page.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) attempt(actions[button.dataset.do]);
});
attempt(begin, false);

async function begin(focus) {
  const obstacle = whyNot();
  if (obstacle) return show(obstacle, focus);
  await navigator.serviceWorker.register("/sw.js", { scope: "/", updateViaCache: "none" });
  const subscription = await (await ready()).pushManager.getSubscription();
  if (Notification.permission === "denied") return show("denied", focus);
  if (!subscription || Notification.permission !== "granted") return show("ready", focus);
  const mine = await kept("enrolment") === token;
  page.querySelector("[data-other]").hidden = mine;
  if (!mine) return show("ready", focus); // somebody else's on a shared computer: not taken over without a click
  await tell(subscription); // harmless when it is known, and mends it when it is not
  show("on", focus);
}

async function turnOn() {
  if (await Notification.requestPermission() !== "granted") return show("denied");
  show("working", false);
  await navigator.serviceWorker.register("/sw.js", { scope: "/", updateViaCache: "none" });
  const subscription = await subscribe(await ready());
  await tell(subscription);
  await keep("enrolment", token);
  show("on");
}

async function turnOff() {
  show("working", false);
  const subscription = await (await ready()).pushManager.getSubscription();
  if (subscription) {
    const { endpoint, keys } = subscription.toJSON();
    await subscription.unsubscribe(); // first: whatever the server says, no alert appears here any more
    await send("DELETE", { endpoint, auth: keys.auth }, [404]);
  }
  await forget("enrolment");
  page.querySelector("[data-other]").hidden = true;
  show("off");
}

async function showTest() {
  await (await ready()).showNotification("This is a test", {
    body: "Alerts will look like this.", tag: "test", lang: "en-GB", icon: "/static/pwa/icon-192.png",
    data: { navigate: location.href },
  });
}

// A subscription made under another key of the server's cannot be used: it is replaced.
async function subscribe(registration) {
  const answer = await fetch("/api/v1/push/key", { cache: "no-store" });
  if (!answer.ok) throw new Error("The key for alerts could not be loaded.");
  const given = await answer.json();
  const options = { userVisibleOnly: true, applicationServerKey: bytes(given.public_key) };
  try {
    return await registration.pushManager.subscribe(options);
  } catch (error) {
    const old = error.name === "InvalidStateError" && await registration.pushManager.getSubscription();
    if (!old) throw error;
    await old.unsubscribe();
    return registration.pushManager.subscribe(options);
  }
}

async function tell(subscription) {
  const { endpoint, keys, expirationTime } = subscription.toJSON();
  await send("POST", { endpoint, keys, expirationTime: expirationTime ?? null, enrolment: token });
}

async function send(method, body, fine = []) {
  const answer = await fetch(SUBSCRIPTIONS, {
    method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "omit",
  });
  if (answer.ok || fine.includes(answer.status)) return;
  const problem = await answer.json().catch(() => ({}));
  throw new Error(problem.detail || `The server answered ${answer.status}.`);
}

function whyNot() {
  const ios = /iPad|iPhone|iPod/.test(navigator.userAgent) || (navigator.platform === "MacIntel" && navigator.maxTouchPoints > 1);
  const installed = navigator.standalone || matchMedia("(display-mode: standalone)").matches;
  if (ios && !installed) return "ios";
  if (!window.isSecureContext) return "insecure";
  return "serviceWorker" in navigator && "PushManager" in window && "Notification" in window ? null : "unsupported";
}

async function attempt(action, focus = true) {
  try {
    await action(focus);
  } catch (error) {
    retry = action;
    const offline = error instanceof TypeError || !navigator.onLine;
    page.querySelector("[data-reason]").textContent = error.name === "NotAllowedError"
      ? "Your browser did not allow it. In a private window it never does."
      : offline ? "The server could not be reached. Check your connection and try again." : error.message;
    show("failed");
  }
}

function show(state, focus = true) {
  for (const section of page.querySelectorAll("[data-state]")) section.hidden = section.dataset.state !== state;
  if (focus) page.querySelector(`[data-state="${state}"] [tabindex="-1"]`)?.focus();
}

const ready = () => navigator.serviceWorker.ready;

function bytes(base64url) {
  const text = atob(base64url.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
