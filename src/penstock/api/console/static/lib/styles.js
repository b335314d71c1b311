// Style sheets of single views, loaded beside their modules.

const root = document.documentElement;

/**
 * Loads a style sheet of the console once; a missing one does not hold the view up.
 * @param {string} name such as "views/traffic.css"
 * @returns {Promise<void>}
 */
export function loadStyle(name) {
  const href = new URL(`${root.dataset.static}${name}`, document.baseURI).href;
  for (const sheet of document.styleSheets) if (sheet.href === href) return Promise.resolve();
  return new Promise((resolve) => {
    const element = document.createElement("link");
    element.rel = "stylesheet";
    element.href = href;
    element.onload = element.onerror = () => resolve();
    document.head.append(element);
  });
}
