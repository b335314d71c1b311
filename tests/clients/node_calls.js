// Sends one message, or several of it at a time, to a method of gRPC's by Node's own HTTP/2, which @grpc/grpc-js runs on,
// and with the settings that @grpc/grpc-js has by default: windows of 65,535 bytes for streams and for the connection.
// Arguments: address, path, file of the message, number of calls, folder for the answers. Prints a status for each call.
"use strict";

const fs = require("node:fs");
const http2 = require("node:http2");
const path = require("node:path");

const [address, method, file, count, folder] = process.argv.slice(2);
const message = fs.readFileSync(file);
const framed = Buffer.concat([Buffer.alloc(5), message]);
framed.writeUInt32BE(message.length, 1);

const { initialWindowSize } = http2.getDefaultSettings();
const session = http2.connect(`http://${address}`, { settings: { initialWindowSize } });
session.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});

function call(index) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": "POST",
      ":path": method,
      "content-type": "application/grpc+proto",
      te: "trailers",
      "grpc-accept-encoding": "identity,deflate,gzip",
    });
    const parts = [];
    let status = "none";
    stream.on("response", (headers) => {
      status = headers["grpc-status"] ?? status;
    });
    stream.on("trailers", (headers) => {
      status = headers["grpc-status"] ?? status;
    });
    stream.on("data", (part) => parts.push(part));
    stream.on("error", reject);
    stream.on("end", () => {
      fs.writeFileSync(path.join(folder, `${index}`), Buffer.concat(parts).subarray(5));
      resolve(status);
    });
    stream.end(framed);
  });
}

Promise.all(Array.from({ length: Number(count) }, (_, index) => call(index))).then(
  (statuses) => {
    console.log(statuses.join(" "));
    session.close();
  },
  (error) => {
    console.error(String(error));
    process.exit(1);
  },
);
