package app

import (
	"context"

	"kijko/server/api"
)

// addFeatures makes the parts whose operations are answered in Go.
func (a *App) addFeatures(context.Context, *api.Executor) error {
	a.features = append(a.features, handlersOnly(a.identity.Handlers()), handlersOnly(a.realtime.Handlers()))
	return nil
}

// handlersOnly is a feature that owns nothing to close.
type handlersOnly map[string]api.Handler

func (h handlersOnly) Handlers() map[string]api.Handler { return h }

func (handlersOnly) Close() error { return nil }
