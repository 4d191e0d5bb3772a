package api

import (
	"encoding/json"
	"strings"
	"unicode"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/mileusna/useragent"
)

// A device is parsed when the request arrives, and stored in rows in its parsed form: readers of the rows need no parser. It is a claim of
// the client. It is only displayed; nothing else depends on it.

// Device is the sender's description in a User-Agent.
type Device struct {
	Browser    string `json:"browser"`
	OS         string `json:"os"`
	DeviceType string `json:"deviceType"`
	UserAgent  string `json:"userAgent,omitempty"`
}

// agentLength is how much of a User-Agent is read and kept.
const agentLength = 500

// ParseDevice parses a User-Agent as far as possible.
func ParseDevice(agent string) Device {
	agent = tidyAgent(agent)
	ua := useragent.Parse(agent)
	d := Device{Browser: ua.Name, OS: ua.OS, DeviceType: "desktop", UserAgent: agent}
	switch {
	// An Android User-Agent without the word Mobile is a tablet, which the library takes for a phone.
	case ua.Tablet, ua.OS == useragent.Android && !strings.Contains(agent, "Mobile"):
		d.DeviceType = "tablet"
	case ua.Mobile:
		d.DeviceType = "mobile"
	}
	if d.Browser == "" || len(d.Browser) > 50 {
		d.Browser = "Unknown"
	}
	if d.OS == "" || len(d.OS) > 50 {
		d.OS = "Unknown"
	}
	return d
}

// tidyAgent makes text that Postgres can store: no control characters, no invalid UTF-8.
func tidyAgent(agent string) string {
	agent = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(agent, ""))
	if len(agent) > agentLength {
		agent = strings.ToValidUTF8(agent[:agentLength], "")
	}
	return agent
}

// devices caches parsed devices: nearly all requests come from a few programs.
var devices, _ = lru.New[string, string](1024)

// deviceJSON returns the device in the form of the setting app.device.
func deviceJSON(agent []byte) string {
	if len(agent) > agentLength {
		agent = agent[:agentLength]
	}
	// A lookup by bytes would need a copy as well.
	key := string(agent)
	if known, ok := devices.Get(key); ok {
		return known
	}
	raw, err := json.Marshal(ParseDevice(key))
	if err != nil {
		return ""
	}
	devices.Add(key, string(raw))
	return string(raw)
}
