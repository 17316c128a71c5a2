const assert = require("assert"), fs = require("fs"), http = require("http"), os = require("os");
const { Worker } = require("worker_threads");
const { execFileSync } = require("child_process");
const { once } = require("events");

async function main() {
  assert.equal(execFileSync("/bin/cat", { input: "child" }).toString(), "child");
  const worker = new Worker("require('worker_threads').parentPort.postMessage([...Array(100).keys()].length)", { eval: true });
  assert.equal((await once(worker, "message"))[0], 100);
  await fs.promises.writeFile("/tmp/f", Buffer.alloc(1 << 20, 1));
  assert.equal((await fs.promises.stat("/tmp/f")).size, 1 << 20);
  const server = http.createServer((_, response) => response.end("hello")).listen(9000, "127.0.0.1");
  await once(server, "listening");
  const text = await (await fetch("http://127.0.0.1:9000/")).text();
  assert.equal(text, "hello");
  server.close();
  assert.ok(require("crypto").createHash("sha256").update("x").digest("hex").length === 64);
  assert.ok(await WebAssembly.compile(Buffer.from([0, 97, 115, 109, 1, 0, 0, 0])));
  // Code that is compiled while it runs.
  let sum = 0;
  for (let i = 0; i < 5e6; i++) sum = (sum + i * i) % 1000003;
  const watcher = fs.watch("/tmp");
  setTimeout(() => fs.writeFileSync("/tmp/g", "x"), 50);
  await once(watcher, "change");
  watcher.close();
  console.log("all done", process.version, sum, os.cpus().length);
  setInterval(() => {}, 1 << 30);
}
main().catch((error) => { console.log("failed", error); process.exit(1); });
