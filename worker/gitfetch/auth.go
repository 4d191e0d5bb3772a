package gitfetch

import (
	"encoding/base64"
	"strings"
)

// tokenUser is the user name that each provider expects beside an OAuth token.
var tokenUser = map[Provider]string{GitHub: "x-access-token", GitLab: "oauth2", Bitbucket: "x-token-auth", Azure: "kijko"}

// authorization returns the value of the Authorization header; "" for anonymous access.
func authorization(provider Provider, auth Auth) string {
	if auth.anonymous() {
		return ""
	}
	// Azure accepts personal access tokens by Basic only, and the tokens of its OAuth flow, which are JWTs, by Bearer only.
	if provider == Azure && auth.Username == "" && strings.Count(auth.Token, ".") == 2 {
		return "Bearer " + auth.Token
	}
	user := auth.Username
	if user == "" {
		user = tokenUser[provider]
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+auth.Token))
}

// scrub removes credentials from text that goes into a log.
func scrub(text, header string) string {
	_, secret, ok := strings.Cut(header, " ")
	if !ok {
		return text
	}
	text = strings.ReplaceAll(text, secret, "***")
	if plain, err := base64.StdEncoding.DecodeString(secret); err == nil {
		if _, token, ok := strings.Cut(string(plain), ":"); ok && token != "" {
			text = strings.ReplaceAll(text, token, "***")
		}
	}
	return text
}
