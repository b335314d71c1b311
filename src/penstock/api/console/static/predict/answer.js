/**
 * An answer for people: outputs as a table of rows, and the time of each stage.
 *
 * @typedef {{name: string, datatype: string, shape: number[], data: unknown[]}} Output
 * @typedef {{stage: string, ms: number}} StageTime
 */

/** The most rows and values that are shown. */
export const MOST_ROWS = 50;
export const MOST_CELL = 64;

/**
 * The stages in a `server-timing` field.
 * @param {string | null} field
 * @returns {StageTime[]}
 */
export function stageTimes(field) {
  return (field ?? "").split(",").flatMap((part) => {
    const found = /^\s*([a-z]+);dur=(\d+(?:\.\d+)?)\s*$/.exec(part);
    return found ? [{ stage: found[1] ?? "", ms: Number(found[2]) }] : [];
  });
}

/**
 * The outputs as the heads and lines of a table: a line for each row if all have as many, else one line.
 * @param {Output[]} outputs
 * @returns {{heads: string[], lines: string[][], left: number}} `left` rows are not shown
 */
export function outputTable(outputs) {
  const rows = commonRows(outputs);
  const shown = Math.min(rows, MOST_ROWS);
  const lines = Array.from({ length: shown }, (_, row) => outputs.map((output) => cellText(part(output, row, rows))));
  const heads = outputs.map((output) => `${output.name} ${output.datatype} [${output.shape.join(", ")}]`);
  return { heads, lines, left: rows - shown };
}

/** @param {Output[]} outputs */
function commonRows(outputs) {
  const firsts = new Set(outputs.map((output) => output.shape[0] ?? 0));
  const [only = 0] = firsts;
  return outputs.length && firsts.size === 1 && outputs.every((output) => output.shape.length) ? only : outputs.length ? 1 : 0;
}

/**
 * @param {Output} output
 * @param {number} row
 * @param {number} rows
 */
function part(output, row, rows) {
  const size = output.data.length / rows;
  return Number.isInteger(size) ? output.data.slice(row * size, (row + 1) * size) : output.data;
}

/** @param {unknown[]} values */
function cellText(values) {
  const shown = values.slice(0, MOST_CELL).map(outputText).join("  ");
  return values.length > MOST_CELL ? `${shown}  … ${values.length - MOST_CELL} more` : shown;
}

/** @param {unknown} value */
function outputText(value) {
  if (typeof value !== "number") return value === null ? "NaN" : String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}
