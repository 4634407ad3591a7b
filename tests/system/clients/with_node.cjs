// Send one request with fetch or axios: LIBRARY METHOD URL OUTPUT BODY RANGE CA.
// Node is given the authority by NODE_EXTRA_CA_CERTS.
const fs = require("node:fs");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");

const [library, method, url, output, body, span] = process.argv.slice(2);
const headers = span === "-" ? {} : { Range: `bytes=${span}` };
const source = body === "-" ? undefined : fs.createReadStream(body);

async function withFetch() {
  if (source) headers["Content-Type"] = "application/octet-stream";
  const answer = await fetch(url, {
    method, headers, body: source && Readable.toWeb(source), duplex: "half",
  });
  const stream = answer.body ? Readable.fromWeb(answer.body) : Readable.from([]);
  await pipeline(stream, fs.createWriteStream(output));
  return [answer.status, answer.headers.get("content-length")];
}

async function withAxios() {
  const axios = require("axios");
  if (source) headers["Content-Length"] = fs.statSync(body).size;
  const answer = await axios({
    method, url, headers, data: source, responseType: "stream",
    validateStatus: null, maxRedirects: 0, maxBodyLength: Infinity,
  });
  await pipeline(answer.data, fs.createWriteStream(output));
  return [answer.status, answer.headers["content-length"]];
}

(library === "axios" ? withAxios() : withFetch()).then(
  ([status, length]) => console.log(status, length ?? "-"),
  (error) => { console.error(error, error.cause); process.exit(1); },
);
