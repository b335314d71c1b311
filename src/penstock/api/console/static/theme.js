// Applies the remembered colour scheme before anything is painted. Without one, the browser's preference decides.
"use strict";
try {
  const theme = localStorage.getItem("penstock-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the page works without.
}
