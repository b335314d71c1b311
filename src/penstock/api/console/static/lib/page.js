// What the server says about this page: the root of the ops port, the session's token, and a live region to speak in.

const root = document.documentElement;

/** The root of the ops port as an absolute address, with the path prefix of a proxy if there is one. */
export const base = new URL(root.dataset.base || "/", location.href);

/** The token that changes must carry when a session cookie identifies the caller; "" without a session. */
export const csrf = root.dataset.csrf || "";

/**
 * Returns the absolute address of a path of the ops port, such as "/console/models".
 * @param {string} path
 * @returns {string}
 */
export function address(path) {
  return new URL(path.replace(/^\/+/, ""), base).href;
}

/**
 * Lets a screen reader read a text.
 * @param {string} text
 */
export function announce(text) {
  const region = document.getElementById("announcements");
  if (region) region.textContent = text;
}

/**
 * Reads a setting of this browser; "" if there is none.
 * @param {string} name
 */
export function recall(name) {
  try {
    return localStorage.getItem(`penstock-${name}`) || "";
  } catch {
    return "";
  }
}

/**
 * Remembers a setting in this browser, where it can.
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  try {
    localStorage.setItem(`penstock-${name}`, value);
  } catch {
    // Storage is switched off: the setting holds for this page.
  }
}
