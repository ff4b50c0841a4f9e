// Asks for a plain and an encrypted page through a proxy, with undici and with the `fetch` of Node,
// and prints what came: one line for each answer.
//
// forward.cjs PLAIN_URL SECRET_URL CA
const fs = require('node:fs');
const undici = require('undici');

const [plain, secret, authority] = process.argv.slice(2);
const ca = fs.readFileSync(authority);
const { HTTP_PROXY: proxy } = process.env;

async function ask(fetch, dispatcher, url) {
  const body = 'x'.repeat(100_000);
  for (const options of [{}, { method: 'POST', body }]) {
    const answer = await fetch(url, { ...options, dispatcher });
    console.log(answer.status, await answer.text());
  }
}

async function main() {
  const agents = [
    // The variables of the environment.
    [undici.fetch, new undici.EnvHttpProxyAgent({ requestTls: { ca } })],
    // Node's own fetch, given the proxy.
    [fetch, new undici.ProxyAgent({ uri: proxy, requestTls: { ca } })],
  ];
  for (const [fetch, agent] of agents) {
    await ask(fetch, agent, plain);
    await ask(fetch, agent, secret);
    await agent.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
