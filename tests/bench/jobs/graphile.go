package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// graphileVersion is the version that the figures of docs/figures.md were measured with.
const graphileVersion = "0.16.6"

// graphileScript has the commands of peer, with graphile-worker's defaults except for the number of jobs at once.
const graphileScript = `
const { run, runMigrations } = require("graphile-worker"); const { Client } = require("pg");
const connectionString = process.env.DATABASE_URL, [command, count] = process.argv.slice(2), n = Number(count);
const now = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));
const quiet = { logger: new (require("graphile-worker").Logger)(() => () => {}) };
(async () => {
  if (command === "install") return runMigrations({ connectionString, ...quiet });
  const pg = new Client({ connectionString }); await pg.connect();
  if (command === "enqueue") { await pg.query("select graphile_worker.add_job('noop') from generate_series(1, $1)", [n]); return pg.end(); }
  let left = n, finished, began = performance.now(), started;
  const done = new Promise((resolve) => { finished = resolve; });
  const runner = await run({ connectionString, concurrency: 20, noHandleSignals: true, ...quiet, taskList: {
    noop: async (payload) => { if (payload.at) started(now() - BigInt(payload.at)); if (--left === 0) finished(); } } });
  if (command === "drain") {
    await done;
    for (let open = 1; open > 0;) open = Number((await pg.query("select count(*) as n from graphile_worker._private_jobs")).rows[0].n);
    console.log((performance.now() - began) / 1000);
  } else {
    await new Promise((r) => setTimeout(r, 1000));
    for (let i = 0; i < n; i++) {
      const at = new Promise((resolve) => { started = resolve; });
      await pg.query("select graphile_worker.add_job('noop', json_build_object('at', $1::text))", [String(now())]);
      console.log(String(await at));
      await new Promise((r) => setTimeout(r, 20));
    }
  }
  await runner.stop(); await pg.end();
})().catch((e) => { console.error(e); process.exit(1); });
`

// installGraphile installs graphile-worker into dir and gives the command line of its script.
func installGraphile(ctx context.Context, dir string) ([]string, error) {
	install := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", dir,
		"graphile-worker@"+graphileVersion, "pg@8")
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("npm install graphile-worker (Node 20 is needed): %w %s", err, strings.TrimSpace(string(out)))
	}
	script := filepath.Join(dir, "worker.js")
	if err := os.WriteFile(script, []byte(graphileScript), 0o600); err != nil {
		return nil, err
	}
	return []string{"node", script}, nil
}

// installRiver builds the program in ./river, which is a module of its own.
func installRiver(ctx context.Context, dir string) ([]string, error) {
	program := filepath.Join(dir, "river")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("tests", "bench", "jobs", "river")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building River's program: %w %s", err, out)
	}
	return []string{program}, nil
}
