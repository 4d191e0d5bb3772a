// The package against a real server. tests/frontend starts one and tells where it is.
import assert from "node:assert/strict";
import { File as NodeFile } from "node:buffer";
import { createServer } from "node:http";
import { webcrypto } from "node:crypto";
import test from "node:test";
import * as kijko from "@kijko/client";
import { uploadFiles } from "@kijko/client/projectApi";

// Node 18 has these under other names.
globalThis.File ??= NodeFile;
globalThis.crypto ??= webcrypto;

const { authApi, configure, exporting, KijkoError, notifications, profile, projectApi, settings, skillExecution, skillsApi, totalOf } = kijko;
const upstream = process.env.KIJKO_URL;

/** A proxy that a test lets fail: each entry of faults is what it does with one call. */
const faults = [];
const seen = [];
const front = createServer(async (request, answer) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  seen.push({ method: request.method, path: request.url, key: request.headers["idempotency-key"] });
  const fault = faults.shift();
  if (fault === "cut") return request.socket.destroy();
  if (typeof fault === "number") return answer.writeHead(fault, { "Content-Type": "text/html" }).end("<h1>Sorry</h1>");
  const { host, connection, "content-length": length, ...headers } = request.headers;
  const reply = await fetch(upstream + request.url, { method: request.method, headers, body: chunks.length > 0 ? Buffer.concat(chunks) : undefined });
  const body = Buffer.from(await reply.arrayBuffer());
  if (fault === "lose the answer") return request.socket.destroy();
  const given = Object.fromEntries(reply.headers);
  for (const name of ["content-encoding", "content-length", "transfer-encoding", "connection"]) delete given[name];
  answer.writeHead(reply.status, given).end(body);
});
await new Promise((resolve) => front.listen(0, "127.0.0.1", resolve));
test.after(() => front.close());

const store = new Map();
let signedOut = 0;
configure({
  baseUrl: `http://127.0.0.1:${front.address().port}`,
  storage: { getItem: (name) => store.get(name) ?? null, setItem: (name, value) => store.set(name, value), removeItem: (name) => store.delete(name) },
  onSignedOut: () => signedOut++,
});
const anna = { email: "anna@example.org", password: "Correct-Horse-1" };
await authApi.signup({ ...anna, first_name: "Anna", last_name: "Vos" });

/** calls are those to a path since the last question. */
const calls = (path) => seen.splice(0).filter((call) => call.path.startsWith(`/api/v1${path}`));

const refused = async (call, want) => {
  await assert.rejects(call, (failure) => {
    assert.ok(failure instanceof KijkoError && failure instanceof Error);
    for (const [name, value] of Object.entries(want)) assert.deepEqual(failure[name], value, name);
    return true;
  });
};

test("an error has the members of the problem document", async () => {
  await refused(() => projectApi.createProject({ name: "x" }), { code: "VALIDATION_ERROR", field: "name", status: 400 });
  await refused(() => projectApi.getProject("00000000-0000-4000-8000-000000000000"), { code: "PROJECT_NOT_FOUND", status: 404, message: "This project does not exist." });
  await refused(() => notifications.readNotification("no id"), { status: 404 });
});

test("an empty id calls nothing", () => {
  assert.throws(() => projectApi.getProject(""), { code: "VALIDATION_ERROR" });
  assert.throws(() => projectApi.deleteProject(""), { code: "VALIDATION_ERROR" });
});

test("times are dates, and text of a person that looks like one is text", async () => {
  const time = "2026-03-02T10:15:04.120Z";
  const { project } = await projectApi.createProject({ name: "Times" });
  assert.ok(project.createdAt instanceof Date);
  await projectApi.updateProject(project.id, { description: time });
  const read = await projectApi.getProject(project.id);
  assert.equal(read.description, time);
  const list = await projectApi.listProjects();
  assert.ok(list.data[0].updatedAt instanceof Date);
  const me = await authApi.me();
  assert.equal(me.email, anna.email);
  await settings.setSetting("display.theme", { value: time });
  assert.equal((await settings.getSetting("display.theme")).settingsValue, time);
});

test("a write whose answer is lost is repeated under its key, and done once", async () => {
  calls("");
  faults.push("lose the answer");
  const { project } = await projectApi.createProject({ name: "Once" });
  const [first, second] = calls("/projects");
  assert.equal(first.key, second.key);
  assert.ok(first.key.length > 20);
  const all = await projectApi.listProjects({ search: "Once" });
  assert.deepEqual(all.data.map((p) => p.id), [project.id]);
});

test("a server that is being restarted is asked again", async () => {
  faults.push("cut", 502, 503, 504);
  assert.equal((await authApi.me()).email, anna.email);
});

test("a sign-in is never repeated", async () => {
  calls("");
  faults.push("cut");
  await refused(() => authApi.login(anna), { code: "NETWORK_ERROR", status: 0 });
  assert.equal(calls("/auth/login").length, 1);
});

test("an answer of a proxy is an error, too", async () => {
  configure({ retries: 0 });
  faults.push(502);
  await refused(() => authApi.me(), { code: "HTTP_502", status: 502 });
  configure({ retries: 6 });
});

test("many calls with an expired token share one refresh", async () => {
  calls("");
  store.set("access_token", "expired");
  const all = await Promise.all(Array.from({ length: 20 }, () => authApi.me()));
  assert.equal(all.length, 20);
  assert.equal(calls("/auth/refresh").length, 1);
  assert.equal(signedOut, 0);
});

test("a refresh that cannot be reached ends no session", async () => {
  configure({ retries: 0 });
  store.set("access_token", "expired");
  faults.push(undefined, "cut");
  await refused(() => authApi.me(), { code: "NETWORK_ERROR" });
  configure({ retries: 6 });
  assert.equal((await authApi.me()).email, anna.email);
  assert.equal(signedOut, 0);
});

test("a wrong password of an open call renews nothing", async () => {
  calls("");
  await refused(() => authApi.login({ ...anna, password: "wrong" }), { code: "INVALID_CREDENTIALS", status: 401 });
  assert.equal(calls("/auth/refresh").length, 0);
});

test("a credential of its own is used and never renewed", async () => {
  calls("");
  await refused(() => authApi.me({ token: "nonsense" }), { code: "UNAUTHENTICATED", status: 401 });
  assert.equal(calls("/auth/refresh").length, 0);
});

test("files go as a form, and keep their paths", async () => {
  const { project } = await projectApi.createProject({ name: "Files", type: "files" });
  const told = [];
  const inFolder = Object.assign(new File(["b"], "b.txt", { type: "text/plain" }), { webkitRelativePath: "docs/b.txt" });
  const { uploaded, errors } = await uploadFiles([new File(["a"], "a.txt", { type: "text/plain" }), inFolder], project.id, { onProgress: (p) => told.push(p) });
  assert.deepEqual(errors, []);
  assert.deepEqual(uploaded.map((f) => f.name).sort(), ["a.txt", "b.txt"]);
  assert.equal(told.length, 1);
  const stored = await kijko.projects.listFiles(project.id);
  assert.deepEqual(stored.data.map((f) => f.path), ["a.txt", "docs/b.txt"]);
  assert.ok(stored.data[0].createdAt instanceof Date);
});

test("an upload whose answer is lost is repeated, though its form has another boundary, and stored once", async () => {
  const { project } = await projectApi.createProject({ name: "Upload", type: "files" });
  calls("");
  faults.push("lose the answer");
  const { uploaded } = await uploadFiles([new File(["a"], "a.txt", { type: "text/plain" })], project.id);
  assert.equal(calls("/files/upload").length, 2);
  const stored = await kijko.projects.listFiles(project.id);
  assert.deepEqual(stored.data.map((f) => f.id), uploaded.map((f) => f.id));
});

test("a download is a file with its name", async () => {
  const { project } = await projectApi.createProject({ name: "Log" });
  const file = await exporting.exportActivityLog(project.id, { format: "csv" });
  assert.match(file.name, /\.csv$/);
  assert.match(file.type, /^text\/csv/);
  assert.match(await file.text(), /,/);
});

test("a bare list knows how many there are", async () => {
  const contexts = await kijko.HypervisaView.contextItems({ pageSize: 1 });
  assert.equal(contexts.length, 1);
  assert.ok(totalOf(contexts).total > 1);
  assert.equal(totalOf(contexts).hasMore, true);
});

test("a stream comes event by event, ends when its reader leaves, and can be stopped", async () => {
  const skill = await skillsApi.createSkill({ name: "Summary", description: "Says what code does", promptTemplate: "Say what this code does, please." });
  const events = [];
  for await (const event of skillExecution.executeSkillStream(skill.id, {})) events.push(event);
  assert.equal(events.at(0).event, "status");
  assert.equal(events.at(-1).event, "done");
  assert.equal(events.filter((e) => e.event === "text").map((e) => e.data.content).join(""), events.at(-1).data.result.output);
  for await (const event of skillExecution.executeSkillStream(skill.id, {})) {
    assert.equal(event.event, "status");
    break;
  }
  const stop = AbortSignal.abort(new Error("stopped"));
  await assert.rejects(skillExecution.executeSkillStream(skill.id, {}, { signal: stop }).next(), /stopped/);
  await refused(() => skillExecution.executeSkillStream("none", {}).next(), { status: 404 });
});

test("a call that is stopped throws the reason, also between repetitions", async () => {
  const controller = new AbortController();
  faults.push("cut", "cut", "cut", "cut", "cut", "cut");
  setTimeout(() => controller.abort(new Error("stopped")), 50);
  await assert.rejects(authApi.me({ signal: controller.signal }), /stopped/);
  faults.length = 0;
});

test("the page is told once that the session has ended", async () => {
  await authApi.login(anna);
  await profile.deleteAvatar();
  const refresh = store.get("refresh_token");
  await authApi.logout();
  assert.equal(store.size, 0);
  store.set("access_token", "expired").set("refresh_token", refresh);
  const all = await Promise.allSettled(Array.from({ length: 5 }, () => authApi.me()));
  assert.ok(all.every((one) => one.status === "rejected" && one.reason.status === 401));
  assert.equal(signedOut, 1);
  assert.equal(store.size, 0);
});
