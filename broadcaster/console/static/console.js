// Every page: starts the design system's components (show and hide of passwords, double-click guards).
const tag = document.querySelector("script[data-vendor]");
if (tag) {
  import(tag.dataset.vendor).then((nhsuk) => nhsuk.initAll()).catch(() => { /* the pages work without it */ });
}
