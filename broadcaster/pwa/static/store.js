// The page's side of the small database that it shares with the service worker (sw.js opens the same one).
const open = () => new Promise((resolve, reject) => {
  const request = indexedDB.open("broadcaster", 1);
  request.onupgradeneeded = () => ["kept", "shown", "receipts"].forEach((name) => request.result.createObjectStore(name));
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

async function use(mode, work) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction("kept", mode);
      const request = work(transaction.objectStore("kept"));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

export const keep = (name, value) => use("readwrite", (store) => store.put(value, name));
export const kept = (name) => use("readonly", (store) => store.get(name));
export const forget = (name) => use("readwrite", (store) => store.delete(name));
