#!/bin/sh
# Sends generated requests to every operation of a running server and fails on a 5xx answer or one that breaks the
# document. Signs up a person of its own, so the data of others is out of reach. Two rounds: with ids of things that
# are there (nothing is deleted), and with ids as generated; a third for the service's own operations where
# KIJKO_SERVICE_TOKEN is set to what the server was started with.
#
# KIJKO_URL            the server (default: that of make run)
# KIJKO_FUZZ_EXAMPLES  how many requests an operation gets in each phase (default 100)
set -eu
url=${KIJKO_URL:-http://127.0.0.1:8000}
examples=${KIJKO_FUZZ_EXAMPLES:-100}
version=4.32.5
program=bin/schemathesis-$version/bin/schemathesis

if [ ! -x "$program" ]; then
  echo "fuzz: installing schemathesis $version into bin/"
  python3 -m venv "bin/schemathesis-$version"
  "bin/schemathesis-$version/bin/pip" install -q "schemathesis==$version"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# post PATH BODY prints the answer; member NAME.NAME reads one value of it.
post() { curl -fsS -H 'Content-Type: application/json' -H "Authorization: Bearer ${token:-none}" -d "$2" "$url/api/v1$1"; }
member() {
  python3 -c 'import functools, json, sys
print(functools.reduce(dict.__getitem__, sys.argv[1].split("."), json.load(sys.stdin)))' "$1"
}
name="fuzz-$(date +%s)-$$"
answer=$(post /auth/signup "{\"email\":\"$name@kijko.example\",\"password\":\"$name-x\",\"first_name\":\"Fuzz\",\"last_name\":\"Er\"}") || {
  echo "fuzz: no server at $url, or sign-up failed; start one with: make run" >&2
  exit 1
}
token=$(printf '%s' "$answer" | member access_token)
project=$(post /projects '{"name":"Fuzzed"}' | member project.id)
repository=$(post "/projects/$project/repositories" '{"provider":"github","repositoryUrl":"https://github.com/kijko/fuzzed"}' | member id)
file=$(post "/projects/$project/text-sources" '{"content":"Something to rename and to move."}' | member id)
skill=$(post /skills '{"name":"Fuzzed","promptTemplate":"Repeat this once more: {{text}}"}' | member id)
execution=$(post "/skills/$skill/run" '{"inputs":{"text":"again"}}' | member executionId)
habit=$(post /habits "{\"skillId\":\"$skill\",\"scheduleCron\":\"0 9 * * *\"}" | member id)
reflex=$(post /reflexes "{\"skillId\":\"$skill\",\"triggerType\":\"webhook\",\"triggerConfig\":{}}" | member id)
notification=$(post /notifications '{"type":"system_update","title":"Fuzzed"}' | member id)
# 503 is the contract's answer where the installation lacks a provider (vectors, mail); any other 5xx is a fault.
cat >"$work/generated.toml" <<TOML
[checks.not_a_server_error]
expected-statuses = ["1xx", "2xx", "3xx", "4xx", "503"]
TOML
cat - "$work/generated.toml" >"$work/there.toml" <<TOML
[parameters]
"path.projectId" = "$project"
"path.repoId" = "$repository"
"path.fileId" = "$file"
"path.skillId" = "$skill"
"path.executionId" = "$execution"
"path.id" = "$habit"
"path.reflexId" = "$reflex"
"path.notificationId" = "$notification"
"path.provider" = "google"

TOML

# round CONFIG TOKEN [OPTION...]
failed=0
round() {
  config=$1 credential=$2
  shift 2
  "$program" --config-file "$work/$config.toml" run "$url/openapi.json" --url "$url/api/v1" -H "Authorization: Bearer $credential" "$@" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
    --max-examples "$examples" --workers 2 --continue-on-failure || failed=1
}
# Logging out, or ending other sessions, would turn all later answers into 401; sockets answer a plain request with 426.
people='/auth/(logout|switch-org|refresh)|/ws$'

keys='/ai/provider-keys/'
round there "$token" --exclude-path-regex "$people|$keys" --exclude-method DELETE
# With a key that nobody issued, models would be asked for in vain; afterwards there is none.
round there "$token" --include-path-regex "$keys"
curl -fsS -X DELETE -H "Authorization: Bearer $token" "$url/api/v1/ai/provider-keys/google" >/dev/null 2>&1 || true
if [ -n "${KIJKO_SERVICE_TOKEN:-}" ]; then
  post "/projects/$project/ingest" '{"skipValidation":true,"forceReprocess":true}' >/dev/null || true
  round there "$KIJKO_SERVICE_TOKEN" --include-operation-id updateIngestionProgress --include-operation-id saveProgressSnapshot \
    --include-operation-id completeIngestion
fi
round generated "$token" --exclude-path-regex "$people|$keys"
exit "$failed"
