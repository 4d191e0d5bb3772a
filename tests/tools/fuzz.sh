#!/bin/sh
# Sends generated requests to every operation of a running server and fails on a 5xx answer or one that breaks the
# document. KIJKO_URL names the server (default: that of make run), KIJKO_FUZZ_EXAMPLES how many requests an
# operation gets. Signs up a person of its own, so the data of others is out of reach.
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
body=$(printf '{"email":"fuzz-%s-%s@kijko.example","password":"Fuzz-%s-%s-x","first_name":"Fuzz","last_name":"Er"}' \
  "$(date +%s)" "$$" "$(date +%s)" "$$")
answer=$(curl -fsS -H 'Content-Type: application/json' -d "$body" "$url/api/v1/auth/signup") || {
  echo "fuzz: no server at $url, or sign-up failed; start one with: make run" >&2
  exit 1
}
token=$(printf '%s' "$answer" | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
# Logging out, or ending other sessions, would turn all later answers into 401.
exec "$program" run "$url/openapi.json" --url "$url" -H "Authorization: Bearer $token" \
  --exclude-path-regex '/auth/(logout|switch-org|refresh)' \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
  --max-examples "$examples" --workers 2
