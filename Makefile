# Every recipe is one call of a program or script; their logic is in Go and in tests/tools.
.DEFAULT_GOAL := help
# A pattern for test-go, a part of a file's name for test-sql.
match ?=
# For make feature: the feature's name, and its singular where that is not the name without its s.
name ?=
one ?=
.PHONY: feature help run demo test test-go test-peers test-sql bench fmt tidy lint generate check-generated coverage fuzz psql stop clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## server, worker and a private PostgreSQL in one process, on http://127.0.0.1:8000
	@tests/tools/prepare.sh
	go run ./server -dev

demo: ## against the running server: sign up, ingest a real repository, watch it live, run a skill, pay, invite a colleague, erase
	go run ./tests/demo

test: ## everything: linters, Go tests, pgTAP, drift of generated files, coverage
	@tests/tools/prepare.sh tests
	go run ./tests/tools/suite

test-go: ## only the Go tests; of one feature: make test-go match=Skills
	go run ./tests/tools/suite -only go -match '$(match)'

test-peers: ## real peers that are too slow for every run: MinIO, Keycloak, newer versions of PostgreSQL, Supabase's CLI
	@tests/tools/prepare.sh peers
	go run ./tests/tools/suite -peers

test-sql: ## only the pgTAP tests; of one feature: make test-sql match=skills
	go run ./tests/tools/suite -only sql -match '$(match)'

bench: ## the table of figures, each with its yardstick
	go run ./tests/bench

fmt: ## format the Go code
	gofmt -w $$(git ls-files '*.go')

tidy: ## remove unused modules from go.mod and go.sum, add missing ones
	go mod tidy

lint: ## gofmt, go vet, staticcheck
	go run ./tests/tools/suite -only lint

feature: ## begin a feature, with its table, operations and tests: make feature name=notes
	@go run ./tests/tools/feature -one '$(one)' '$(name)'

generate: ## renew db/schema.sql, supabase/, docs/settings.md, and the functions of the client package
	go run ./tests/tools/generate

check-generated: ## fail if a generated file is stale
	go run ./tests/tools/generate -check

coverage: ## coverage of the last test run, by package (make test wrote the profile)
	go run ./tests/tools/suite -only coverage

fuzz: ## generated requests against every operation of a running server (schemathesis)
	tests/tools/fuzz.sh

psql: ## a psql prompt in the database of make run
	@go run ./tests/tools/postgres psql

stop: ## stop the database that a killed make run left running
	@go run ./tests/tools/postgres stop

clean: ## stop the database, then remove it, all local data and build results
	@go run ./tests/tools/postgres remove
	rm -rf bin coverage.out
