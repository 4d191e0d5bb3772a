// Drives the official JavaScript client: one command a line on standard input, one report a line on standard output (see
// tests/socketio_test.go). Nothing is judged here.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const report = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + "\n");
let socket;

const commands = {
  connect({ url, namespace, auth, query, transports }) {
    socket = io(url + namespace, { auth, query, transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 });
    socket.on("connect", () => {
      report("connect", { sid: socket.id, recovered: socket.recovered });
    });
    socket.on("connect_error", (error) => report("connect_error", { message: error.message, data: error.data ?? null }));
    socket.on("disconnect", (reason) => report("disconnect", { reason, active: socket.active }));
    socket.onAny((name, ...args) => report("message", { name, args }));
  },
  emit({ name, args }) {
    socket.emit(name, ...args, (...answer) => report("ack", { name, args: answer }));
  },
  transport() {
    report("transport", { transport: socket.io.engine.transport.name });
  },
  disconnect() {
    socket.disconnect();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  commands[command.do](command);
}
process.exit(0);
