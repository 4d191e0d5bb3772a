#!/bin/sh
# PostgreSQL estimates a range that is given by row comparisons, (a, b) >= (...) and (a, b) <= (...), as two conditions that have nothing to do with
# each other: a narrow range in the middle of a table counts for a quarter of it. The same range by its first column is estimated well, and
# with both the plan is good. Keyset pages written with row comparisons (as many guides show them) can so get a plan for a quarter of the table.
#
# Seen with 15.18. Needs initdb, pg_ctl and psql (Debian: postgresql-15), found by PG_BIN or under /usr/lib/postgresql.
set -eu
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
dir=$(mktemp -d)
as() { if [ "$(id -u)" = 0 ]; then su -s /bin/sh postgres -c "$1"; else sh -c "$1"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
trap 'as "$bin/pg_ctl -D $dir/data -m immediate stop" >/dev/null 2>&1; rm -rf "$dir"' EXIT
as "$bin/initdb -D $dir/data -A trust -U postgres >/dev/null && $bin/pg_ctl -D $dir/data -o '-c listen_addresses= -k $dir' -l $dir/log -w start >/dev/null"
run() { as "$bin/psql -h $dir -U postgres -XqAt" ; }

estimate() {
  printf 'explain (format json) select * from t where %s;\n' "$1" | run | sed -n 's/.*"Plan Rows": \([0-9]*\).*/\1/p' | head -n 1
}

echo "select version(); create table t (a integer, b integer, primary key (a, b));
  insert into t select g, 0 from generate_series(1, 100000) g; vacuum analyze t;" | run
by_rows=$(estimate '(a, b) >= (50000, 0) and (a, b) <= (50099, 0)')
by_column=$(estimate 'a >= 50000 and a <= 50099')
by_both=$(estimate 'a >= 50000 and a <= 50099 and (a, b) >= (50000, 0) and (a, b) <= (50099, 0)')
echo "a range of 100 rows among 100000 is estimated as: by row comparisons $by_rows, by the first column $by_column, by both $by_both"
if [ "$by_rows" -lt 20000 ] || [ "$by_column" -gt 1000 ] || [ "$by_both" -gt 1000 ]; then
  echo "that has changed" >&2
  exit 1
fi
