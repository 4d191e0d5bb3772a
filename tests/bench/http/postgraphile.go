package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// postgraphileVersion is the version that the targets were measured with.
const postgraphileVersion = "4.14.1"

// peer measures P2 and P3: the same row through PostGraphile in one Node process, with the same settings and the same policy. PostGraphile
// verifies a token as we do, and returns the project's own columns. Our answer also has the owner, the star and the last active person.
func (b *bench) peer(ctx context.Context) error {
	stop, err := b.startPostgraphile(ctx)
	if err != nil {
		fmt.Println("P2   skipped:", err)
		return nil
	}
	defer stop()
	lua := fmt.Sprintf(`wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer %s"
wrk.body = '{"query":"{ projectById(id: \\"%s\\") { id name description type status privacy icon label color previewUrl archived sourceCount totalRepos totalFiles includeMetadata anonymizeSecrets chunkingStrategy originalTokens optimizedTokens ingestionTimeSeconds createdAt updatedAt organizationId userId } }"}'`,
		b.peerToken(), b.project)
	var rates, tails []float64
	for range rounds {
		ours, err := b.wrk(ctx, "/api/v1/projects/"+b.project, "")
		if err != nil {
			return err
		}
		url := b.url
		b.url = "http://127.0.0.1:" + b.peerPort
		theirs, err := b.wrk(ctx, "/graphql", lua)
		b.url = url
		if err != nil {
			return err
		}
		rates, tails = append(rates, ours.rate/theirs.rate), append(tails, ours.p99/theirs.p99)
	}
	report("P2", "one-row GET / PostGraphile", median(rates), "must 4, aim 6")
	report("P3", "p99 of it / PostGraphile's", median(tails), "must 0.35, aim 0.25")
	return nil
}

func (b *bench) startPostgraphile(ctx context.Context) (stop func(), err error) {
	folder := filepath.Join(b.dir, "postgraphile")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	install := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder, "postgraphile@"+postgraphileVersion)
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("npm install postgraphile: %w %s", err, strings.TrimSpace(string(out)))
	}
	if b.peerPort, err = freePort(); err != nil {
		return nil, err
	}
	script := fmt.Sprintf(`const http = require("http"); const { postgraphile } = require("postgraphile"); const { Pool } = require("pg");
const pool = new Pool({ connectionString: process.env.DSN, max: 4 });
http.createServer(postgraphile(pool, "public", { disableQueryLog: true, ignoreRBAC: false, jwtSecret: "bench", pgSettings: () => ({ role: "authenticated",
  "app.user_id": %q, "app.org_id": %q, "app.org_role": "owner" }) })).listen(%s, "127.0.0.1");`, b.person.user, b.person.org, b.peerPort)
	if err := os.WriteFile(filepath.Join(folder, "server.js"), []byte(script), 0o600); err != nil {
		return nil, err
	}
	node := exec.CommandContext(ctx, "node", "server.js")
	node.Dir = folder
	node.Env = append(os.Environ(), "NODE_ENV=production", "DSN="+b.cluster.TCPDSN("kijko"))
	if err := node.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		res, err := http.Post("http://127.0.0.1:"+b.peerPort+"/graphql", "application/json", strings.NewReader(`{"query":"{ __typename }"}`))
		if err != nil {
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("PostGraphile did not answer")
}

// peerToken is a token signed with the secret that PostGraphile is started with.
func (b *bench) peerToken() string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"aud":"postgraphile","role":"authenticated","sub":%q,"sid":%q,"org_id":%q,"exp":%d}`,
			b.person.user, b.person.session, b.person.org, time.Now().Add(time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte("bench"))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}
