/**
 * The same request as a command or a program: curl, tritonclient and `penstock predict`. Each runs as it stands, where
 * the client is installed and the credential is in the variable that it names.
 *
 * @typedef {import("./request.js").InferRequest} InferRequest
 * @typedef {import("./values.js").Tensor} Tensor
 * @typedef {{http: string, grpc: string, tls: boolean, authentication: boolean}} Gateway
 * @typedef {{gateway: Gateway, model: string, version: string, request: InferRequest, fields: Record<string, string>}} Question
 *   `version` is "" where the route decides; `fields` are header fields for rules.
 */

import { requestText } from "./request.js";

/** A longer request is in a file beside the command. */
export const LONGEST_INLINE = 2000;
export const REQUEST_FILE = "request.json";

/**
 * The gateway as this page reaches it: an address that stands for every interface is that of the page.
 * @param {Gateway} gateway
 * @param {string} hostname of the page
 * @returns {Gateway}
 */
export function reachable(gateway, hostname) {
  return { ...gateway, http: gateway.http.replace(/^(?:0\.0\.0\.0|\[::\]):/, `${hostname}:`) };
}

/**
 * Whether the request is too long to stand in a command; save it as `request.json` then.
 * @param {Question} question
 */
export function needsFile(question) {
  return requestText(question.request, true).length > LONGEST_INLINE;
}

/** @param {Question} question */
export function curlCommand(question) {
  const { gateway, fields } = question;
  const lines = [`curl ${shellWord(url(question))}`, "-H 'content-type: application/json'"];
  if (gateway.tls) lines.push('--cacert "$PENSTOCK_CA_FILE"');
  if (gateway.authentication) lines.push('-H "authorization: Bearer $(cat "$PENSTOCK_TOKEN_FILE")"');
  for (const [name, value] of Object.entries(fields)) lines.push(`-H ${shellWord(`${name}: ${value}`)}`);
  lines.push(`--data ${shellWord(needsFile(question) ? `@${REQUEST_FILE}` : requestText(question.request, true))}`);
  return lines.join(" \\\n  ");
}

/**
 * `penstock predict` sends no header fields of rules, so it has a note then.
 * @param {Question} question
 */
export function predictCommand(question) {
  const { gateway, model, version } = question;
  const lines = [`penstock predict ${shellWord(model)}`];
  if (version) lines.push(`--version ${shellWord(version)}`);
  lines.push(`--url ${shellWord(gateway.tls ? `${schemeOf(gateway)}://${gateway.http}` : gateway.http)}`);
  if (gateway.tls) lines.push('--ca-file "$PENSTOCK_CA_FILE"');
  if (gateway.authentication) lines.push('--token-file "$PENSTOCK_TOKEN_FILE"');
  lines.push(`--data ${shellWord(needsFile(question) ? `@${REQUEST_FILE}` : requestText(question.request, true))}`);
  const note = Object.keys(question.fields).length ? "# penstock predict sends no header fields for rules\n" : "";
  return note + lines.join(" \\\n  ");
}

/** @param {Question} question */
export function tritonProgram(question) {
  const { gateway, fields, model, version, request } = question;
  const inFile = needsFile(question);
  const imports = [...(inFile ? ["import json"] : []), ...(needsSystem(gateway) ? ["import os"] : [])];
  const lines = [...imports, ...(imports.length ? [""] : []), "import numpy as np", "import tritonclient.http as triton", ""];
  lines.push(...clientLines(gateway));
  lines.push(...(inFile ? FILE_INPUTS : request.inputs.flatMap(inputLines)));
  const inputs = inFile ? "inputs" : `[${request.inputs.map((_, index) => variable(index)).join(", ")}]`;
  const stated = [`${pythonText(model)}, ${inputs}`];
  if (version) stated.push(`model_version=${pythonText(version)}`);
  const headers = headersText(gateway, fields);
  if (headers) stated.push(`headers=${headers}`);
  lines.push(`answer = client.infer(${stated.join(", ")})`, 'for output in answer.get_response()["outputs"]:');
  lines.push('    print(output["name"], answer.as_numpy(output["name"]))');
  return lines.join("\n");
}

const FILE_INPUTS = [
  `with open("${REQUEST_FILE}") as file:`,
  '    tensors = json.load(file)["inputs"]',
  "inputs = []",
  "for tensor in tensors:",
  '    dtype = triton.triton_to_np_dtype(tensor["datatype"])',
  '    data = np.array(tensor["data"], dtype=dtype).reshape(tensor["shape"])',
  '    item = triton.InferInput(tensor["name"], tensor["shape"], tensor["datatype"])',
  "    item.set_data_from_numpy(data)",
  "    inputs.append(item)",
];

/** @type {Record<string, string>} */
const DTYPES = {
  BOOL: "np.bool_",
  BYTES: "np.object_",
  FP16: "np.float16",
  FP32: "np.float32",
  FP64: "np.float64",
};

/** @param {Gateway} gateway */
function needsSystem(gateway) {
  return gateway.tls || gateway.authentication;
}

/** @param {Gateway} gateway */
function clientLines(gateway) {
  if (!gateway.tls) return [`client = triton.InferenceServerClient(${pythonText(gateway.http)})`];
  const options = 'ssl_options={"ca_certs": os.environ["PENSTOCK_CA_FILE"]}';
  return [`client = triton.InferenceServerClient(${pythonText(gateway.http)}, ssl=True, ${options})`];
}

/**
 * @param {Gateway} gateway
 * @param {Record<string, string>} fields
 */
function headersText(gateway, fields) {
  const stated = Object.entries(fields).map(([name, value]) => `${pythonText(name)}: ${pythonText(value)}`);
  if (gateway.authentication)
    stated.push('"authorization": "Bearer " + open(os.environ["PENSTOCK_TOKEN_FILE"]).read().strip()');
  return stated.length ? `{${stated.join(", ")}}` : "";
}

/** @param {number} index */
function variable(index) {
  return `input_${index + 1}`;
}

/**
 * @param {Tensor} tensor
 * @param {number} index
 */
function inputLines(tensor, index) {
  const dtype = DTYPES[tensor.datatype] ?? `np.${tensor.datatype.toLowerCase()}`;
  const shape = `[${tensor.shape.join(", ")}]`;
  const data = tensor.data.map((value) => pythonValue(value)).join(", ");
  return [
    `${variable(index)} = triton.InferInput(${pythonText(tensor.name)}, ${shape}, ${pythonText(tensor.datatype)})`,
    `${variable(index)}.set_data_from_numpy(np.array([${data}], dtype=${dtype}).reshape(${shape}))`,
  ];
}

/** @param {import("./values.js").Value} value */
function pythonValue(value) {
  if (value === null) return "np.nan";
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "string" ? pythonText(value) : String(value);
}

/**
 * A Python literal: JSON's escapes are Python's too.
 * @param {string} text
 */
export function pythonText(text) {
  return JSON.stringify(text);
}

/**
 * A word of a POSIX shell.
 * @param {string} text
 */
export function shellWord(text) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {Question} question */
function url({ gateway, model, version }) {
  const path = `/v2/models/${encodeURIComponent(model)}`;
  const one = version ? `/versions/${encodeURIComponent(version)}` : "";
  return `${schemeOf(gateway)}://${gateway.http}${path}${one}/infer`;
}

/** @param {Gateway} gateway */
function schemeOf(gateway) {
  return gateway.tls ? "https" : "http";
}
