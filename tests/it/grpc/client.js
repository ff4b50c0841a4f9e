// A client of gRPC in Node.js: `client.js TARGET`. All kinds of calls, with plain bytes.
const grpc = require("@grpc/grpc-js");

const same = (bytes) => bytes;
const kind = (name, requestStream, responseStream) => ({
  path: `/test.Echo/${name}`, requestStream, responseStream,
  requestSerialize: same, requestDeserialize: same,
  responseSerialize: same, responseDeserialize: same,
});
const Echo = grpc.makeGenericClientConstructor({
  unary: kind("Unary", false, false), down: kind("Down", false, true),
  up: kind("Up", true, false), both: kind("Both", true, true),
  missing: kind("Missing", false, false),
});
const client = new Echo(process.argv[2], grpc.credentials.createInsecure());

const unary = (name, bytes) => new Promise((good, bad) =>
  client[name](bytes, (error, answer) => (error ? bad(error) : good(answer.toString()))));
const all = (call) => new Promise((good, bad) => {
  const got = [];
  call.on("data", (bytes) => got.push(bytes.toString()));
  call.on("end", () => good(got));
  call.on("error", bad);
});
const check = (name, holds) => { if (!holds) throw new Error(`${name} is wrong`); };

async function main() {
  check("unary", (await unary("unary", Buffer.from("one"))) === "one");
  check("down", (await all(client.down(Buffer.from("100")))).length === 100);
  const up = await new Promise((good, bad) => {
    const call = client.up((error, answer) => (error ? bad(error) : good(answer.toString())));
    for (let n = 0; n < 200; n++) call.write(Buffer.alloc(1000));
    call.end();
  });
  check("up", up === "200000");
  const both = client.both();
  const echoed = all(both);
  for (let n = 0; n < 200; n++) both.write(Buffer.from(String(n)));
  both.end();
  check("both", (await echoed).join() === [...Array(200).keys()].join());
  const error = await unary("missing", Buffer.alloc(0)).catch((error) => error);
  check("missing", error.code === grpc.status.UNIMPLEMENTED);
  console.log("ok");
  client.close();
}

main().catch((error) => { console.error(error); process.exit(1); });
