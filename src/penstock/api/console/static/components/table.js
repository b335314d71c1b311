// A table that can be sorted, with a caption for screen readers and rows that the keys j, k and Enter move over.

import { Component, html, useMemo, useState } from "../lib/html.js";
import { number } from "../lib/format.js";
import { Empty } from "./notes.js";

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} key
 * @property {any} title
 * @property {(row: Row) => any} [cell] what the cell shows; by default the field with the key (a dash if there is none), as a number with `align`
 * @property {true | ((row: Row) => number | string | null | undefined)} [sort] what it is sorted by, true for the field with
 *     the key; without it the column cannot be
 * @property {"end"} [align] numbers stand at the end
 * @property {string} [hint] what the column means
 */

/**
 * Compares values for sorting: numbers by size, texts by letters and numbers in them, nothing last.
 * @param {any} one
 * @param {any} other
 */
export function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === undefined || one === "") return 1;
  if (other === null || other === undefined || other === "") return -1;
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

/**
 * Returns rows in the order of a column, such as "name" or "-name" for the reverse.
 * @template Row
 * @param {Row[]} rows
 * @param {Column<Row>[]} columns
 * @param {string} order
 */
export function sorted(rows, columns, order) {
  const key = order.replace(/^-/, "");
  const sort = columns.find((column) => column.key === key)?.sort;
  if (!sort) return rows;
  const by = sort === true ? (/** @type {any} */ row) => row[key] : sort;
  const sign = order.startsWith("-") ? -1 : 1;
  return [...rows].sort((one, other) => sign * compare(by(one), by(other)));
}

/**
 * Shows rows; in a narrow window each is a block with the titles before its cells, and the roles keep it a table. `order` and `onOrder` keep the order outside, such as in the query; without them the table keeps its own.
 * @template Row
 * @param {{caption: string, columns: Column<Row>[], rows: Row[], keyOf?: (row: Row) => string | number, order?: string,
 *     onOrder?: (order: string) => void, empty?: any, rowClass?: (row: Row) => string, stableBy?: (row: Row) => string}} props
 *     `keyOf` returns what names a row, by default the field of the first column; a row is rendered again only if `stableBy` gives another text, where it is stated
 */
export function Table({ caption, columns, rows, keyOf, order, onOrder, empty, rowClass, stableBy }) {
  const [own, setOwn] = useState("");
  const present = order ?? own;
  const shown = useMemo(() => sorted(rows, columns, present), [rows, columns, present]);
  const { key = "" } = columns[0] ?? {};
  if (!rows.length) return html`<${Empty}>${empty}<//>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table role="table">
    <caption class="hidden">${caption}</caption>
    <thead role="rowgroup"><tr role="row">${columns.map((column) => html`<${TableHead} key=${column.key} column=${column} order=${present} onOrder=${onOrder || setOwn} />`)}</tr></thead>
    <tbody role="rowgroup">${shown.map((row) => html`<${TableRow} key=${keyOf ? keyOf(row) : /** @type {any} */ (row)[key]} row=${row} columns=${columns} rowClass=${rowClass} stableBy=${stableBy} />`)}</tbody>
  </table></div>`;
}

/** @typedef {{row: any, columns: Column<any>[], rowClass?: (row: any) => string, stableBy?: (row: any) => string}} RowProps */

/** One row. @extends {Component<RowProps>} */
class TableRow extends Component {
  /** @param {RowProps} next */
  shouldComponentUpdate(next) {
    const { row, columns, stableBy } = this.props;
    return !stableBy || columns !== next.columns || stableBy(row) !== stableBy(next.row);
  }

  /** @param {RowProps} props */
  render({ row, columns, rowClass }) {
    return html`<tr data-row role="row" class=${rowClass?.(row)}>${columns.map((column, index) => cellOf(column, row, index))}</tr>`;
  }
}

/**
 * @param {Column<any>} column
 * @param {any} row
 * @param {number} index
 */
function cellOf(column, row, index) {
  const shown = column.cell ? column.cell(row) : column.align ? number(row[column.key]) : (row[column.key] ?? "–");
  if (index === 0) return html`<th scope="row" role="rowheader" class=${column.align}>${shown}</th>`;
  return html`<td role="cell" data-title=${column.title} class=${column.align}>${shown}</td>`;
}

/** @param {{column: Column<any>, order: string, onOrder: (order: string) => void}} props */
function TableHead({ column, order, onOrder }) {
  if (!column.sort) return html`<th scope="col" role="columnheader" class=${column.align} title=${column.hint}>${column.title}</th>`;
  const direction = order === column.key ? "ascending" : order === `-${column.key}` ? "descending" : undefined;
  const next = direction === "ascending" ? `-${column.key}` : column.key;
  const arrow = direction === "ascending" ? " ▲" : direction === "descending" ? " ▼" : "";
  return html`<th scope="col" role="columnheader" class=${column.align} aria-sort=${direction} title=${column.hint}>
    <button type="button" class="sort" onClick=${() => onOrder(next)}>${column.title}<span aria-hidden="true">${arrow}</span></button>
  </th>`;
}
