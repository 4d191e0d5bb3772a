package realtime

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"kijko/server/api"
)

// protocolName is the subprotocol of this server. A bearer entry beside it is never echoed.
const protocolName = "kijko.v1"

// handshake is a copy of the upgrade request's data: Fiber's strings are valid only inside the handler.
type handshake struct {
	opening Opening
	awaits  bool // the credential comes with the first message
	ip      string
}

// newUpgrader uses small buffers: clients send little, and the server's frames do not pass through the library.
func newUpgrader(originAllowed func(*fasthttp.RequestCtx) bool) *websocket.FastHTTPUpgrader {
	return &websocket.FastHTTPUpgrader{
		Subprotocols: []string{protocolName}, ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{},
		CheckOrigin: originAllowed,
	}
}

// serve answers GET .../projects/{projectId}/ws and GET .../ws. Refusals before the upgrade are ordinary problems. The token is checked
// after the upgrade, because a browser sees neither the status nor a close code of a refused upgrade.
func (s *Server) serve(c *fiber.Ctx) error {
	if p := api.CheckUpgrade(c); p != nil {
		return p
	}
	ip := s.deps.ClientIP(c)
	if !s.originAllowed(c.Context()) {
		s.NoteForeign(ip, strings.Clone(c.Params("projectId")), strings.Clone(c.Get(fiber.HeaderOrigin)))
		return api.NewProblem(http.StatusForbidden, "ORIGIN_NOT_ALLOWED",
			"Pages of this site may not open connections here. The operator lists the sites that may in CORS_ORIGINS.", "")
	}
	if err := s.Admit(ip, strings.Clone(c.Params("projectId"))); err != nil {
		return err
	}
	h := readHandshake(c)
	h.ip = ip
	// Upgrades that the library would refuse in plain text are refused above.
	_ = s.upgrader.Upgrade(c.Context(), func(conn *websocket.Conn) { s.run(conn, h) })
	return nil
}

// NoteForeign writes a connection attempt by another site's page to the access log. A browser sees no more than a failed connection, so the
// setting that admits the site is also named in the server's log, a few times a minute at most.
func (s *Server) NoteForeign(ip, target, origin string) {
	if s.foreign.Allow() {
		s.log.Warn("a page was refused a socket: its origin is not in CORS_ORIGINS", "origin", origin, "ip", ip)
	}
	s.refusals.add(uuid.NewString(), target, "", "Origin not allowed", ip)
}

// Admit checks a connection attempt before anything else: against the rate limit of its address, and against draining. target is the
// requested project or context, for the access log. The error is a problem for the answer.
func (s *Server) Admit(ip, target string) error {
	if ok, wait := s.perIP.take(addressKey(ip), s.now()); !ok {
		s.refusals.add(uuid.NewString(), target, "", "Too many handshakes", ip)
		p := api.NewProblem(http.StatusTooManyRequests, "RATE_LIMITED", "Too many connection attempts. Please wait a moment.", "")
		p.Header = map[string]string{fiber.HeaderRetryAfter: strconv.Itoa(int(wait.Seconds()) + 1)}
		return p
	}
	if s.draining.Load() {
		p := api.NewProblem(http.StatusServiceUnavailable, "SERVICE_UNAVAILABLE", "This server is being restarted. Please connect again.", "")
		p.Header = map[string]string{fiber.HeaderRetryAfter: "1"}
		return p
	}
	return nil
}

// readHandshake finds the credential (contract 30, 2.2: the first one present is used) and copies what the socket needs.
func readHandshake(c *fiber.Ctx) handshake {
	query := c.Context().QueryArgs()
	o := Opening{
		Agent: string(c.Request().Header.UserAgent()), Cursor: string(query.Peek("lastEventId")), HasCursor: query.Has("lastEventId"), Snapshot: string(query.Peek("snapshot")),
	}
	switch project := c.Params("projectId"); {
	case project != "":
		o.Kind, o.Target = Project, strings.ToLower(strings.Clone(project))
	case query.Has("contextId"):
		o.Kind, o.Target = Context, strings.ToLower(string(query.Peek("contextId")))
	default:
		o.Kind = General
	}
	var offered bool
	for _, header := range c.Request().Header.PeekAll("Sec-WebSocket-Protocol") {
		for _, name := range strings.Split(string(header), ",") {
			name = strings.TrimSpace(name)
			if token, ok := strings.CutPrefix(name, "bearer."); ok && o.Token == "" {
				o.Token = token
			}
			offered = offered || name == protocolName
		}
	}
	if o.Token != "" {
		return handshake{opening: o}
	}
	if scheme, token, ok := strings.Cut(string(c.Request().Header.Peek(fiber.HeaderAuthorization)), " "); ok && strings.EqualFold(scheme, "bearer") {
		o.Token, o.InHeader = strings.TrimSpace(token), true
	}
	if o.Token == "" {
		o.Token = string(query.Peek("token"))
	}
	return handshake{opening: o, awaits: o.Token == "" && offered}
}
