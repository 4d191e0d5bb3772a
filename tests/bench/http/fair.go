package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"kijko/db/devpg"
)

// fairLoops is the number of requests that one person keeps in flight, and fairFor the duration of one measurement.
const (
	fairLoops = 24
	fairFor   = 3 * time.Second
)

// fair measures another tenant's reads while one person reads their largest page in endless loops, and while a table is locked.
func (b *bench) fair(ctx context.Context) error {
	var heavy, light struct {
		AccessToken string `json:"access_token"`
	}
	for name, into := range map[string]any{"heavy": &heavy, "light": &light} {
		if err := b.post("/api/v1/auth/signup", "", `{"email":"`+name+`@example.nl","password":"bench-password","first_name":"Bench","last_name":"Mark"}`, into); err != nil {
			return err
		}
	}
	for i := range 100 {
		body := fmt.Sprintf(`{"name":"Heavy %d","promptTemplate":"%s"}`, i, strings.Repeat("many words ", 800))
		if err := b.post("/api/v1/skills", heavy.AccessToken, body, &struct{}{}); err != nil {
			return err
		}
	}
	for i := range 5 {
		if err := b.post("/api/v1/projects", light.AccessToken, fmt.Sprintf(`{"name":"Light %d"}`, i), &struct{}{}); err != nil {
			return err
		}
	}
	if _, err := b.owner.Exec(ctx, "vacuum analyze"); err != nil {
		return err
	}
	builds := []fairBuild{{name: "this one", url: b.url}}
	if b.other != "" {
		builds = append(builds, fairBuild{name: "the other checkout", url: b.other})
	}
	for range rounds {
		for i := range builds {
			if err := builds[i].measure(ctx, heavy.AccessToken, light.AccessToken); err != nil {
				return err
			}
		}
	}
	for _, build := range builds {
		quiet, busy := median(build.quiet), median(build.busy)
		report("F1", fmt.Sprintf("p50 of another's GET /projects under %d loops of 900 KB (%.1f ms) / without (%.1f ms), %s", fairLoops, busy, quiet, build.name),
			busy/quiet, "must 3")
		report("F1", "pages that the loops got in a second, "+build.name, median(build.pages), "")
	}
	for _, build := range builds {
		if err := b.locked(ctx, build, heavy.AccessToken, light.AccessToken); err != nil {
			return err
		}
	}
	return nil
}

// fairBuild is a server and its measurements.
type fairBuild struct {
	name, url          string
	quiet, busy, pages []float64
}

func (f *fairBuild) measure(ctx context.Context, heavy, light string) error {
	quiet, err := readTimes(ctx, f.url+"/api/v1/projects", light, fairFor)
	if err != nil {
		return err
	}
	looping, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	var mu sync.Mutex
	pages := 0
	for range fairLoops {
		group.Go(func() {
			for looping.Err() == nil {
				status, err := get(looping, f.url+"/api/v1/skills?pageSize=100", heavy)
				if err == nil && status == http.StatusOK {
					mu.Lock()
					pages++
					mu.Unlock()
				}
			}
		})
	}
	busy, err := readTimes(ctx, f.url+"/api/v1/projects", light, fairFor)
	stop()
	group.Wait()
	if err != nil {
		return err
	}
	f.quiet, f.busy, f.pages = append(f.quiet, quiet[len(quiet)/2]), append(f.busy, busy[len(busy)/2]), append(f.pages, float64(pages)/fairFor.Seconds())
	return nil
}

// locked measures forty readers of a locked table, and one reader that does not need it.
func (b *bench) locked(ctx context.Context, build fairBuild, heavy, light string) (err error) {
	holder, err := pgx.Connect(ctx, b.cluster.DSN(devpg.Superuser, "kijko"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, holder.Close(ctx)) }()
	if _, err := holder.Exec(ctx, "begin; lock table public.projects in access exclusive mode"); err != nil {
		return err
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var longest time.Duration
	statuses := map[int]int{}
	for range 40 {
		group.Go(func() {
			began := time.Now()
			status, _ := get(ctx, build.url+"/api/v1/projects", heavy)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(began))
			statuses[status]++
		})
	}
	time.Sleep(100 * time.Millisecond) // all readers have sent their requests
	began := time.Now()
	status, err := get(ctx, build.url+"/api/v1/auth/me", light)
	took := time.Since(began)
	group.Wait()
	if err != nil {
		return err
	}
	report("F2", fmt.Sprintf("projects locked: GET /auth/me %d in %.2f s; 40 x GET /projects %v, the last after seconds, %s", status, took.Seconds(), statuses, build.name),
		longest.Seconds(), "must 3")
	return nil
}

// startOther builds and starts the server of another checkout beside this one.
func (b *bench) startOther(ctx context.Context, checkout string) (url string, stop func(), err error) {
	program := filepath.Join(b.dir, "other")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./server")
	build.Dir, build.Stderr = checkout, os.Stderr
	if err := build.Run(); err != nil {
		return "", nil, fmt.Errorf("building the server of %s: %w", checkout, err)
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(append([]string{}, b.env...), "KIJKO_ADDR=127.0.0.1:"+port)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	url = "http://127.0.0.1:" + port
	if err := awaitReady(url); err != nil {
		stop()
		return "", nil, err
	}
	return url, stop, nil
}

func get(ctx context.Context, url, token string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := benchClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

var benchClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
