// The inputs of a prediction: boxes made from the signature, pasted JSON or CSV, or an image.

import { html, useRef, useState, valueTo } from "../lib/html.js";
import { boxesOf, imageShape, kindOf, labelsOf, shapeText } from "../predict/signature.js";
import { SCALES, drawnSize, pixelValues } from "../predict/image.js";

/** @typedef {import("../predict/signature.js").TensorSpec} TensorSpec */
/** @typedef {import("../predict/signature.js").ImageShape} ImageShape */
/** @typedef {import("../predict/image.js").PixelScale} PixelScale */
/** @typedef {Record<string, string[]>} Boxes the texts of the boxes by input */
/** @typedef {{spec: TensorSpec, shape: number[], data: number[], name: string}} Picture */

const LONGEST_FILE = 8 << 20;

/**
 * A box for each value of one row of each input.
 * @param {{specs: TensorSpec[], features: string[], boxes: Boxes, onChange: (boxes: Boxes) => void}} props
 */
export function RowFields({ specs, features, boxes, onChange }) {
  /** @param {string} name @param {number} index @param {string} text */
  const set = (name, index, text) => onChange({ ...boxes, [name]: (boxes[name] ?? []).map((old, place) => (place === index ? text : old)) });
  return html`${specs.map((spec) => html`<fieldset key=${spec.name}><legend>${spec.name} <span class="muted">${spec.datatype} ${shapeText(spec.shape)}</span></legend>
    <div class="row">${labelsOf(spec, features).map((label, index) => html`<${Box} key=${index} spec=${spec} label=${label} value=${boxes[spec.name]?.[index] ?? ""} onInput=${(/** @type {string} */ text) => set(spec.name, index, text)} />`)}</div></fieldset>`)}`;
}

/** @param {{spec: TensorSpec, label: string, value: string, onInput: (text: string) => void}} props */
function Box({ spec, label, value, onInput }) {
  const kind = kindOf(spec.datatype);
  if (kind === "flag")
    return html`<label class="row"><input type="checkbox" checked=${value === "true"} onChange=${(/** @type {any} */ event) => onInput(String(event.currentTarget.checked))} /> ${label}</label>`;
  const mode = kind === "text" ? "text" : kind === "integer" ? "numeric" : "decimal";
  return html`<label class="field">${label} <input class=${kind === "text" ? "" : "number"} size="9" inputmode=${mode} value=${value} onInput=${valueTo(onInput)} /></label>`;
}

/**
 * The boxes with zeros, or null if a row of an input has too many values for boxes.
 * @param {TensorSpec[]} specs
 * @returns {Boxes | null}
 */
export function emptyBoxes(specs) {
  if (!specs.length || specs.some((spec) => boxesOf(spec) === 0)) return null;
  return Object.fromEntries(specs.map((spec) => [spec.name, new Array(boxesOf(spec)).fill(firstText(spec.datatype))]));
}

/** @param {string} datatype */
function firstText(datatype) {
  const kind = kindOf(datatype);
  return kind === "flag" ? "false" : kind === "text" ? "" : "0";
}

/**
 * A text area that also takes a file.
 * @param {{label: string, text: string, accept: string, onChange: (text: string) => void}} props
 */
export function TextField({ label, text, accept, onChange }) {
  const [fault, setFault] = useState("");

  /** @param {File | undefined} file */
  async function read(file) {
    if (!file) return;
    setFault(file.size > LONGEST_FILE ? "The file is longer than 8 MiB; send it by a client." : "");
    if (file.size <= LONGEST_FILE) onChange(await file.text());
  }

  return html`<label class="field">${label}
      <textarea rows="8" class="code" spellcheck="false" value=${text} onInput=${valueTo(onChange)}></textarea></label>
    <label class="field">or a file <input type="file" accept=${accept} onChange=${(/** @type {any} */ event) => read(event.currentTarget.files[0])} /></label>
    ${fault && html`<p class="bad" role="alert">${fault}</p>`}`;
}

/**
 * An image as the values of an input: drawn at the size of the input, in the browser alone.
 * @param {{specs: TensorSpec[], onPicture: (picture: Picture | null) => void, picture: Picture | null}} props
 */
export function ImageField({ specs, onPicture, picture }) {
  const fitting = specs.filter((spec) => imageShape(spec));
  const [spec, setSpec] = useState(/** @type {TensorSpec | undefined} */ (fitting[0]));
  const [scale, setScale] = useState(/** @type {PixelScale} */ (spec?.datatype === "UINT8" ? "bytes" : "unit"));
  const [fault, setFault] = useState("");
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const file = useRef(/** @type {File | null} */ (null));

  /** @param {TensorSpec | undefined} into @param {PixelScale} how */
  async function draw(into, how) {
    const shape = into && imageShape(into);
    if (!file.current || !into || !shape || !canvas.current) return;
    try {
      const image = await createImageBitmap(file.current);
      onPicture(drawInto(canvas.current, image, into, shape, how, file.current.name));
      setFault("");
    } catch {
      onPicture(null);
      setFault("The browser cannot read this image.");
    }
  }

  return html`<div class="toolbar">
      <label class="field">Image <input type="file" accept="image/*" onChange=${(/** @type {any} */ event) => {
        file.current = event.currentTarget.files[0] ?? null;
        void draw(spec, scale);
      }} /></label>
      ${fitting.length > 1 && html`<label class="field">Input <select value=${spec?.name} onChange=${(/** @type {any} */ event) => {
        const next = fitting.find((item) => item.name === event.currentTarget.value);
        setSpec(next);
        void draw(next, scale);
      }}>${fitting.map((item) => html`<option key=${item.name} value=${item.name}>${item.name}</option>`)}</select></label>`}
      <label class="field">Values <select value=${scale} onChange=${(/** @type {any} */ event) => {
        const next = /** @type {PixelScale} */ (event.currentTarget.value);
        setScale(next);
        void draw(spec, next);
      }}>${Object.entries(SCALES).map(([name, text]) => html`<option key=${name} value=${name}>${text}</option>`)}</select></label>
    </div>
    <canvas ref=${canvas} width="0" height="0" role="img" aria-label=${picture ? `The image ${picture.name} as the model gets it` : "No image"}></canvas>
    ${picture && html`<p class="small muted">${picture.name} as ${picture.spec.name} [${picture.shape.join(", ")}]</p>`}
    ${fault && html`<p class="bad" role="alert">${fault}</p>`}`;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} image
 * @param {TensorSpec} spec
 * @param {ImageShape} shape
 * @param {PixelScale} scale
 * @param {string} name
 * @returns {Picture | null}
 */
function drawInto(canvas, image, spec, shape, scale, name) {
  const { height, width } = drawnSize(shape, image);
  Object.assign(canvas, { height, width });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return null;
  context.drawImage(image, 0, 0, width, height);
  const data = pixelValues(context.getImageData(0, 0, width, height).data, height, width, shape, scale);
  const sides = shape.first ? [shape.channels, height, width] : [height, width, shape.channels];
  return { spec, shape: shape.batch ? [1, ...sides] : sides, data, name };
}
