// Asks for the reason of a change, shows what it changes and on which revision it rests, performs it, and shows what
// somebody else has changed in between.

import { html, useState, valueTo } from "../lib/html.js";
import { ApiError } from "../lib/api.js";
import { announce } from "../lib/page.js";
import { Dialog } from "./dialog.js";
import { ErrorBox } from "./notes.js";
import { Table } from "./table.js";

/** @typedef {{label: string, before?: any, after: any}} Change */
/** @typedef {{revision: number | null, changes?: Change[], summary?: any}} Present what is there now: `changes` to it, or any `summary` */

const LONGEST_REASON = 2000;

/**
 * @param {{title: string, action: string, changes?: Change[], children?: any, revision?: number | null, danger?: boolean,
 *     optional?: boolean, perform: (how: {reason: string, revision: number | null}) => Promise<any>,
 *     current?: () => Promise<Present>, onClose: () => void, onDone?: (result: any) => void}} props `action` is the text
 *     of the button; `perform` makes the change with `send`; `current` fetches what is there after a conflict; a reason
 *     must be given unless it is `optional`
 */
export function ReasonDialog({ title, action, changes, children, revision = null, danger, optional, perform, current, onClose, onDone }) {
  const [reason, setReason] = useState("");
  const [base, setBase] = useState(revision);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [present, setPresent] = useState(/** @type {Present | null} */ (null));

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const result = await perform({ reason: reason.trim(), revision: base });
      announce(`${title}: done`);
      onClose();
      onDone?.(result);
    } catch (caught) {
      await explain(/** @type {Error} */ (caught));
    } finally {
      setBusy(false);
    }
  }

  /** @param {Error} caught */
  async function explain(caught) {
    if (caught instanceof ApiError && caught.status === 409 && current) {
      const now = await current().catch(() => null);
      setPresent(now);
      if (now) setBase(now.revision);
    }
    setError(caught);
  }

  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form onSubmit=${submit}>
      <${Changes} changes=${changes} />
      ${children}
      ${base !== null && html`<p class="small muted">This rests on revision ${base}; a change by somebody else in between is not overwritten.</p>`}
      ${present && html`<${Conflict} present=${present} />`}
      ${!present && html`<${ErrorBox} error=${error} />`}
      <label class="field">Reason${optional ? " (optional)" : ""}
        <textarea name="reason" rows="2" maxlength=${LONGEST_REASON} required=${!optional} autofocus value=${reason}
          onInput=${valueTo(setReason)}></textarea>
      </label>
      <div class="row end">
        <button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button class="button ${danger ? "danger" : "primary"}" disabled=${busy || (!optional && !reason.trim())}>
          ${present ? `${action} on revision ${base}` : action}
        </button>
      </div>
    </form>
  <//>`;
}

/** @param {{present: Present}} props */
function Conflict({ present }) {
  return html`<div class="note warn" role="alert">
    <p><strong>Somebody changed it in between.</strong> This is what is there now, at revision ${present.revision}; look again before you go on.</p>
    <${Changes} changes=${present.changes} />${present.summary}
  </div>`;
}

/** @param {{changes?: Change[]}} props */
export function Changes({ changes }) {
  if (!changes?.length) return null;
  return html`<${Table} caption="Changes" rows=${changes} columns=${CHANGE_COLUMNS} />`;
}

const CHANGE_COLUMNS = [
  { key: "label", title: "What" },
  { key: "before", title: "Now" },
  { key: "after", title: "After" },
];
