// Sends messages over WebSocket with `ws`, gets them back, and prints how many were the same and
// how the connection was closed.
//
// ws_client.cjs URL
const crypto = require('node:crypto');
const WebSocket = require('ws');

const messages = [1, 125, 126, 65535, 65536, 1 << 20].map((size) => crypto.randomBytes(size));
const socket = new WebSocket(process.argv[2], { perMessageDeflate: false });
let same = 0;

socket.on('open', () => messages.forEach((message) => socket.send(message)));
socket.on('message', (message) => {
  if (messages[same].equals(message)) same += 1;
  if (same === messages.length) socket.close(1000);
});
socket.on('close', (code) => console.log(same, code));
socket.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
