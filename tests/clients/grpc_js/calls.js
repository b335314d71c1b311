// Sends one message, or several of it at a time, to a method of gRPC's by @grpc/grpc-js with its defaults; only the limit
// of 4 MB that it has for an answer is lifted, as its users do. Arguments and output: see node_calls.js.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");

const [address, method, file, count, folder] = process.argv.slice(2);
const message = fs.readFileSync(file);
const same = (bytes) => bytes;
const client = new grpc.Client(address, grpc.credentials.createInsecure(), { "grpc.max_receive_message_length": -1 });

function call(index) {
  return new Promise((resolve) => {
    client.makeUnaryRequest(method, same, same, message, (error, answer) => {
      if (error === null) {
        fs.writeFileSync(path.join(folder, `${index}`), answer);
      } else {
        console.error(String(error));
      }
      resolve(error === null ? grpc.status.OK : error.code);
    });
  });
}

Promise.all(Array.from({ length: Number(count) }, (_, index) => call(index))).then((statuses) => {
  console.log(statuses.join(" "));
  client.close();
});
