// Style sheets of single views, loaded beside their modules.

/** Absolute from the start: the address of the page changes with the views. */
const folder = new URL(document.documentElement.dataset.static || "", document.baseURI).href;

/**
 * Loads a style sheet of the console once; a missing one does not hold the view up.
 * @param {string} name such as "views/traffic.css"
 * @returns {Promise<void>}
 */
export function loadStyle(name) {
  const href = folder + name;
  for (const sheet of document.styleSheets) if (sheet.href === href) return Promise.resolve();
  return new Promise((resolve) => {
    const element = document.createElement("link");
    element.rel = "stylesheet";
    element.href = href;
    element.onload = element.onerror = () => resolve();
    document.head.append(element);
  });
}
