// The page for signing in. A link from another site brings no cookie (SameSite=Strict): whoever is signed in goes on.

import { address } from "./lib/page.js";

const next = /** @type {HTMLInputElement | null} */ (document.querySelector("input[name=next]"));
const response = await fetch(address("/admin/v1/whoami"), { cache: "no-store", credentials: "same-origin" });
if (response.ok && next) location.replace(address(next.value));
