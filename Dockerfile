# syntax=docker/dockerfile:1
# One image for both programs: "server" (default) and "worker", and "kijko-db" to set the database up.

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# cgo stays on: the parsers (tree-sitter) are C.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=1 go build -trimpath -ldflags="-s -w" -o /out/ ./server ./worker ./db/cmd/kijko-db

FROM debian:bookworm-slim
# git clones the repositories; curl asks for health; tini reaps the processes that git leaves behind.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl git tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home --home-dir /var/lib/kijko kijko \
 && install -d -o kijko -g kijko -m 0700 /var/lib/kijko/data
COPY --from=build /out/ /usr/local/bin/
USER kijko
WORKDIR /var/lib/kijko
ENV KIJKO_ADDR=0.0.0.0:8000 KIJKO_DATA_DIR=/var/lib/kijko/data
VOLUME /var/lib/kijko/data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD curl -fsS http://127.0.0.1:8000/health >/dev/null || exit 1
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--"]
CMD ["server"]
