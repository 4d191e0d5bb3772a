// The page at /docs/realtime: one socket, its rooms, its frames. Nothing is kept; the token travels as a subprotocol, never in an address.
"use strict";

const $ = (id) => document.getElementById(id);
const most = 500; // frames shown
let socket = null;
let seen = 0;
let newest = "";
let rooms = new Set();

function show(direction, text, kind) {
  let frame = {};
  try { frame = JSON.parse(text) ?? {}; } catch { /* shown as it is */ }
  const row = document.createElement("tr");
  const name = frame.type || frame.event || frame.action || "";
  const room = frame.room || (frame.data && frame.data.room) || "";
  row.className = [direction, kind].filter(Boolean).join(" ");
  for (const value of [new Date().toISOString().slice(11, 23), direction === "out" ? "→" : "←", name, room, frame.id || "", text]) {
    const cell = document.createElement("td");
    cell.textContent = value;
    row.append(cell);
  }
  row.hidden = !matches(row);
  $("frames").prepend(row);
  while ($("frames").childElementCount > most) $("frames").lastElementChild.remove();
  $("count").textContent = String(++seen);
  return frame;
}

function matches(row) {
  const wanted = $("filter").value.trim().toLowerCase();
  return !wanted || (row.cells[2].textContent + " " + row.cells[3].textContent).toLowerCase().includes(wanted);
}

function setRooms(names) {
  rooms = new Set(names);
  $("joined").textContent = [...rooms].join(", ") || "no room";
  $("rooms").replaceChildren(...[...rooms].map((name) => Object.assign(document.createElement("option"), { value: name })));
}

function received(text) {
  const frame = show("in", text, /"(type|event)":"(protocol_)?error"/.test(text) && !/"id":/.test(text) ? "bad" : "");
  const name = frame.type || frame.event;
  const data = frame.data || {};
  if (frame.id && (newest === "" || BigInt(frame.id) > BigInt(newest))) $("cursor").value = newest = frame.id;
  if (name === "hello") {
    setRooms(data.rooms);
    newest = $("cursor").value = data.lastEventId;
    status("connected as " + data.userId);
    $("actions").disabled = false;
  } else if (name === "authenticated") setRooms(data.rooms);
  else if (name === "room_joined") setRooms([...rooms, frame.room || data.room]);
  else if (name === "room_left") setRooms([...rooms].filter((room) => room !== (frame.room || data.room)));
}

function status(text) { $("status").textContent = text; }

function address() {
  const id = encodeURIComponent($("target").value.trim());
  const query = new URLSearchParams();
  if ($("cursor").value.trim()) query.set("lastEventId", $("cursor").value.trim());
  let path = "/api/v1/ws";
  if ($("kind").value === "project") path = "/api/v1/projects/" + id + "/ws";
  else if ($("kind").value === "context") query.set("contextId", $("target").value.trim());
  const base = location.origin.replace(/^http/, "ws") + path;
  return query.size ? base + "?" + query : base;
}

function connect(event) {
  event.preventDefault();
  if (socket) return;
  const token = $("token").value.trim();
  status("connecting");
  try {
    socket = new WebSocket(address(), token ? ["kijko.v1", "bearer." + token] : []);
  } catch (error) {
    status(error.message); // a token that no header can carry
    return;
  }
  $("connect").disabled = true;
  $("disconnect").disabled = false;
  socket.onmessage = (message) => received(message.data);
  socket.onclose = (closed) => {
    socket = null;
    $("connect").disabled = false;
    $("disconnect").disabled = $("actions").disabled = true;
    status("closed: " + closed.code + (closed.reason ? " " + closed.reason : ""));
    setRooms([]);
  };
}

function send(frame) {
  const text = typeof frame === "string" ? frame : JSON.stringify(frame);
  if (!socket) return;
  socket.send(text);
  show("out", frame.token ? JSON.stringify({ ...frame, token: "…" }) : text);
}

$("open").addEventListener("submit", connect);
$("disconnect").addEventListener("click", () => socket && socket.close(1000));
$("act").addEventListener("submit", (event) => {
  event.preventDefault();
  send({ action: "join", room: $("room").value.trim() });
});
$("leave").addEventListener("click", () => send({ action: "leave", room: $("room").value.trim() }));
$("resume").addEventListener("click", () => send({ action: "resume", lastEventId: $("cursor").value.trim() }));
$("authenticate").addEventListener("click", () => send({ action: "authenticate", token: $("token").value.trim() }));
$("ping").addEventListener("click", () => send({ action: "ping" }));
$("send").addEventListener("click", () => send($("raw").value));
$("clear").addEventListener("click", () => $("frames").replaceChildren());
$("filter").addEventListener("input", () => { for (const row of $("frames").rows) row.hidden = !matches(row); });
$("kind").addEventListener("change", () => { $("target-label").hidden = $("kind").value === "general"; });
