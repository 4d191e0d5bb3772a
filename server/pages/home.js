// The home page: the state of each dependency, and in development the demo person's projects, runs, graph and events. The token stays in
// this script's memory. All text is shown as text.
"use strict";

const $ = (id) => document.getElementById(id);
const base = "/api/v1";
let token = "";
let demo = null;
let following = null; // the socket of the project that is being ingested

const make = (name, text, className) => Object.assign(document.createElement(name), { textContent: text ?? "", className: className ?? "" });

function row(...cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement("td");
    td.append(cell);
    line.append(td);
  }
  return line;
}

async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    credentials: "omit",
    headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...(token && { Authorization: "Bearer " + token }) },
    body: body && JSON.stringify(body),
  });
  const value = answer.status === 204 ? null : await answer.json();
  if (!answer.ok && !value.checks) throw new Error(value.message || answer.statusText);
  return value;
}

async function health() {
  try {
    const now = await call("GET", "/health");
    $("state").textContent = now.status;
    $("state").className = now.status;
    const parts = Object.entries(now.checks);
    const isOff = ([, check]) => check.status === "disabled" || check.status === "unconfigured";
    $("checks").replaceChildren(...parts.filter((part) => !isOff(part)).map(([name, check]) => row(name,
      make("span", [check.status, check.code, check.pending && check.pending + " jobs wait"].filter(Boolean).join(", "), check.status),
      (check.latencyMs ?? 0).toFixed(1) + " ms")));
    $("off").textContent = "Not set up here: " + (parts.filter(isOff).map(([name]) => name).join(", ") || "nothing") + ".";
  } catch {
    $("state").textContent = "it does not answer";
    $("state").className = "unhealthy";
  }
}

async function projects() {
  const page = await call("GET", base + "/projects?pageSize=8");
  $("projects").replaceChildren(...page.data.map((project) => {
    const show = make("button", "Show");
    show.type = "button";
    show.setAttribute("aria-label", "Show the graph of " + project.name);
    show.addEventListener("click", () => graph(project.id, project.name));
    return row(project.name, make("span", project.status, project.status), show);
  }));
}

async function runs() {
  const page = await call("GET", base + "/executions?limit=8");
  $("runs").replaceChildren(...page.executions.map((run) => row(new Date(run.executedAt).toLocaleTimeString(), run.skill?.name ?? "",
    make("span", [run.status, run.errorCode].filter(Boolean).join(", "), run.status), String(run.tokensUsed ?? ""))));
}

async function skills() {
  const page = await call("GET", base + "/skills?limit=50");
  $("skill").replaceChildren(...page.skills.map((skill) => Object.assign(make("option", skill.name), { value: skill.id, inputs: skill.inputSchema ?? [] })));
}

async function graph(id, name) {
  const answer = await fetch(base + "/contexts/" + id + "/knowledge-graph.svg?limit=150", { headers: { Authorization: "Bearer " + token } });
  if (!answer.ok) return;
  const picture = new Image();
  picture.alt = "The graph of " + name + ": files, classes and functions as circles, links as lines";
  picture.src = URL.createObjectURL(await answer.blob());
  picture.onload = () => URL.revokeObjectURL(picture.src);
  $("graph").replaceChildren(picture);
  $("graph-said").textContent = name;
}

// socket opens a socket that opens itself again while the server restarts, and not when the server has refused.
function socket(path, received, closed) {
  let last = "";
  let pause = 500;
  const open = () => {
    const address = location.origin.replace(/^http/, "ws") + base + path + (last && "?lastEventId=" + last);
    const now = new WebSocket(address, ["kijko.v1", "bearer." + token]);
    now.onmessage = (message) => {
      const frame = JSON.parse(message.data);
      if (frame.id) last = frame.id;
      else if (frame.data?.lastEventId) last = frame.data.lastEventId;
      pause = 500;
      received(frame, now);
    };
    now.onclose = (event) => {
      closed?.(event.code);
      if (event.code === 1000 || (event.code >= 4000 && event.code < 4100)) return;
      setTimeout(open, pause);
      pause = Math.min(pause * 2, 10_000);
    };
    return now;
  };
  return open();
}

function event(frame) {
  const data = frame.data ?? {};
  const text = [frame.type || frame.event, frame.room || data.room, data.resource, data.action, data.message].filter((part) => typeof part === "string").join(" · ");
  const line = document.createElement("li");
  line.append(make("span", new Date().toLocaleTimeString() + "  ", "soft mono"), make("span", text, "mono"));
  $("events").prepend(line);
  while ($("events").childElementCount > 100) $("events").lastElementChild.remove();
}

let refreshing = 0;

// refresh reads both lists once after a burst of events.
function refresh() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => { projects(); runs(); }, 300);
}

function follow(id, name) {
  $("ingestion").hidden = false;
  following?.close(1000);
  following = socket("/projects/" + id + "/ws", (frame, now) => {
    const data = frame.data ?? {};
    event(frame);
    if (frame.type === "phase_started") $("phase").textContent = data.message || data.phase;
    if (frame.type === "progress_update") {
      $("progress").value = data.progressPercent;
      $("counts").textContent = `${data.progressPercent} %, ${data.metrics.filesProcessed} of ${data.metrics.totalFiles} files, ${data.metrics.tokensProcessed} tokens`;
    }
    if (frame.type === "ingestion_complete") {
      $("progress").value = 100;
      $("phase").textContent = name + " is ingested";
      now.close(1000);
      refresh();
      graph(id, name);
    }
    if (frame.type === "error") {
      $("phase").textContent = data.errorMessage || data.errorCode;
      now.close(1000);
      refresh();
    }
  });
}

// guarded runs an action of a button: it cannot be pressed twice, and a refusal is said.
function guarded(button, action) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      $("said").textContent = error.message;
    }
    button.disabled = false;
  });
}

guarded($("sign-in"), async () => {
  const tokens = await call("POST", base + "/auth/login", { email: demo.email, password: demo.password });
  token = tokens.access_token;
  $("said").textContent = "Signed in as " + demo.email;
  $("sign-in").hidden = true;
  $("work").hidden = false;
  $("ingest").hidden = !demo.repository;
  await Promise.all([projects(), runs(), skills()]);
  socket("/ws", (frame) => {
    if (frame.type === "hello" || frame.event === "hello") $("connection").textContent = "connected";
    event(frame);
    if ((frame.type || frame.event) === "resource_changed") refresh();
  }, () => { $("connection").textContent = "not connected"; });
});

guarded($("ingest"), async () => {
  const name = "Kijko " + new Date().toISOString().slice(0, 19).replace("T", " ");
  const { project } = await call("POST", base + "/projects", { name, type: "repository" });
  await call("POST", `${base}/projects/${project.id}/repositories`, { provider: demo.provider, repositoryUrl: demo.repository, branch: demo.branch });
  await call("POST", `${base}/projects/${project.id}/ingest`, {});
  follow(project.id, project.name);
  await projects();
});

guarded($("run"), async () => {
  const chosen = $("skill").selectedOptions[0];
  if (!chosen) return;
  const inputs = Object.fromEntries(chosen.inputs.filter((input) => input.required).map((input) => [input.name, input.default ?? "An example"]));
  $("answer").textContent = "…";
  const done = await call("POST", `${base}/skills/${chosen.value}/run`, { inputs });
  $("answer").textContent = done.output ?? done.error ?? done.status ?? "";
  await runs();
});

(async () => {
  health();
  setInterval(health, 5000);
  const greeting = await call("GET", "/");
  $("version").textContent = greeting.version;
  demo = greeting.demo?.email ? greeting.demo : null;
  $("demo").hidden = !demo;
  $("mails").hidden = !greeting.demo?.mails;
})();
