// The yardstick of the burst: Socket.IO's own server on Node, as it comes, with one room that every socket joins. It speaks the small
// protocol of the other servers of this measurement (see ../peer.go).
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname !== "/burst") return;
  const number = (name) => Number(url.searchParams.get(name) ?? 0);
  const text = "x".repeat(number("size"));
  const at = Math.round((performance.timeOrigin + performance.now()) * 1e6);
  for (let i = 0; i < number("n"); i++) io.to("room").emit("e", { n: number("from") + i, text });
  response.end(JSON.stringify({ at }));
});
const io = new Server(http, { transports: ["websocket"] });
io.on("connection", (socket) => socket.join("room"));
http.listen(0, "127.0.0.1", () => {
  const { port } = http.address();
  console.log(JSON.stringify({ ws: `ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`, http: `http://127.0.0.1:${port}` }));
});
