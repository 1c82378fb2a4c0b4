// Which addresses this process connects to, in order: fetch, TLS and plain sockets all pass here.
import net from "node:net";

export const addresses = new Set();

const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...words) {
  const [options] = Array.isArray(words[0]) ? words[0] : words;
  addresses.add(`${options.host}:${options.port}`);
  return connect.apply(this, words);
};
