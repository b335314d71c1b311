// A view to come: until then the page that the server renders stays.

import { html } from "../lib/html.js";
import { Loading } from "../components/notes.js";

function Placeholder() {
  return html`<${Loading} />`;
}

/** @type {import("../app.js").View} */
export const view = { title: (params) => `${params.model}: monitor`, component: Placeholder };
