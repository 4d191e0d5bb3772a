package security

import (
	"context"
	"log/slog"

	"kijko/server/api"
	"kijko/server/auth"
	"kijko/worker/seal"
)

// Settings are the dependencies of New. Without Box secrets cannot be sealed, and operations that need it answer 503.
type Settings struct {
	Exec   *api.Executor
	Auth   api.Authenticator
	Hasher *auth.Hasher
	Box    *seal.Box
	// Origin is the address of this API, for links that clients open.
	Origin string
	Log    *slog.Logger
}

// Feature is security's part of the edge. Close it after the last request.
type Feature struct {
	exec     *api.Executor
	auth     api.Authenticator
	hasher   *auth.Hasher
	box      *seal.Box
	codes    *Codes // nil without a box
	origin   string
	warnings *warnings
}

// New makes a Feature. It records addresses with a warning until Close.
func New(s Settings) *Feature {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	f := &Feature{exec: s.Exec, auth: s.Auth, hasher: s.Hasher, box: s.Box, origin: s.Origin, warnings: startWarnings(s.Exec, s.Log)}
	if s.Box != nil {
		f.codes = NewCodes(s.Box)
	}
	s.Exec.OnWarning(f.warnings.note)
	return f
}

// Handlers returns the operations that this package answers, by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"setUpTwoFactor":             f.sealed(f.setUp),
		"verifyTwoFactor":            f.sealed(f.verify),
		"disableTwoFactor":           f.sealed(f.disable),
		"regenerateBackupCodes":      f.sealed(f.regenerate),
		"getCompliance":              f.compliance,
		"downloadComplianceDocument": f.download,
	}
}

// Close waits for entries that are being written.
func (f *Feature) Close() error {
	f.warnings.stop()
	return nil
}

// NotConfigured is the answer of an installation without an encryption key.
func NotConfigured() *api.Problem {
	return api.NoEncryptionKey("second factors", "")
}

func (f *Feature) sealed(next api.Handler) api.Handler {
	return func(c *api.Call) error {
		if f.codes == nil {
			return NotConfigured()
		}
		return next(c)
	}
}

// warnings records addresses that an allow-list warns of, after the answers of their requests: reads stay read-only, and no request waits
// for it.
type warnings struct {
	exec *api.Executor
	log  *slog.Logger
	due  chan warning
	done chan struct{}
}

type warning struct {
	caller           *api.Caller
	clientIP, device string
}

// maxWarnings bounds the waiting entries. A dropped entry comes again with the next request.
const maxWarnings = 1000

func startWarnings(exec *api.Executor, log *slog.Logger) *warnings {
	w := &warnings{exec: exec, log: log, due: make(chan warning, maxWarnings), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *warnings) note(r *api.Request) {
	select {
	case w.due <- warning{r.Caller, r.ClientIP, r.Device}:
	default:
	}
}

func (w *warnings) run() {
	defer close(w.done)
	for v := range w.due {
		var hint any
		if v.caller.OrgHint != "" {
			hint = v.caller.OrgHint
		}
		_, err := w.exec.Run(context.Background(), &api.Request{AsServer: true, Payer: v.caller, ClientIP: v.clientIP, Device: v.device,
			SQL: api.ProcedureSQL("note_address($1, $2, $3, $4)::text"), Args: []any{v.caller.SessionID, v.caller.UserID, hint, v.clientIP}})
		if err != nil {
			w.log.Warn("an address was not noted", "error", err)
		}
	}
}

// stop is called once, after the last request.
func (w *warnings) stop() {
	close(w.due)
	<-w.done
}
