package api

import (
	"encoding/base64"
	"net/http"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
)

// The only version of WebSocket, and the length of a client's key (RFC 6455, 4.1).
const (
	webSocketVersion  = "13"
	webSocketKeyBytes = 16
)

// CheckUpgrade refuses a request that is not a WebSocket request; it returns nil for one that is. The library would refuse in plain text,
// without the supported version, and accepts any text as a key.
func CheckUpgrade(c *fiber.Ctx) *Problem {
	header := &c.Request().Header
	if !websocket.FastHTTPIsWebSocketUpgrade(c.Context()) || string(header.Peek("Sec-WebSocket-Version")) != webSocketVersion {
		return UpgradeRequired()
	}
	if key, err := base64.StdEncoding.DecodeString(string(header.Peek("Sec-WebSocket-Key"))); err != nil || len(key) != webSocketKeyBytes {
		return NewProblem(http.StatusBadRequest, "BAD_REQUEST", "Sec-WebSocket-Key must hold 16 bytes in base64.", "")
	}
	return nil
}

// UpgradeRequired answers a plain request, and a request for another version of WebSocket.
func UpgradeRequired() *Problem {
	p := NewProblem(http.StatusUpgradeRequired, "UPGRADE_REQUIRED", "This address speaks WebSocket only.", "")
	p.Header = map[string]string{fiber.HeaderUpgrade: "websocket", fiber.HeaderConnection: "Upgrade", "Sec-WebSocket-Version": webSocketVersion}
	return p
}
