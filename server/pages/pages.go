// Package pages has the home page, the page that draws the graph of a context, and the style sheet that all pages of the server share: light
// and dark, for phones, keyboards and screen readers. Other packages make their pages with it too.
//
// Style and script stand inside of a page, so that it is whole behind any proxy, and its policy lets only these two run: pages show untrusted
// text, and some hold a credential.
package pages

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"regexp"
	"strings"

	"github.com/gofiber/fiber/v2"
)

var (
	//go:embed style.css
	sharedStyle string
	//go:embed home.html
	homeDocument string
	//go:embed home.js
	homeScript string
	//go:embed graph.html
	graphDocument string
	//go:embed graph.js
	graphScript string
)

// Page is a document that is ready to be sent. It is safe for concurrent use.
type Page struct {
	// Text is the document.
	Text string
	// Policy is its content security policy.
	Policy string
}

// Access is what a page may reach beyond its own style and script.
type Access string

const (
	// Nothing: the page is only read.
	Nothing Access = ""
	// Calls to this server.
	Calls Access = "; connect-src 'self'"
	// CallsAndPictures adds sockets and pictures that the script has fetched.
	CallsAndPictures Access = "; connect-src 'self' ws: wss:; img-src blob:"
)

var comments = regexp.MustCompile(`(?s)/\*.*?\*/`)

// New puts the shared style, a style of its own and a script into a document, at its <style></style> and <script></script>.
func New(document, style, script string, access Access) *Page {
	// html/template, which some pages pass through, takes comments out of styles: the digest would not fit.
	style = comments.ReplaceAllString(sharedStyle+style, "")
	document = strings.Replace(document, "<style></style>", "<style>"+style+"</style>", 1)
	document = strings.Replace(document, "<script></script>", "<script>"+script+"</script>", 1)
	return &Page{Text: document, Policy: "default-src 'none'; script-src " + digest(script) + "; style-src " + digest(style) + string(access) +
		"; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"}
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Send answers with the page.
func (p *Page) Send(c *fiber.Ctx) error {
	p.Headers(c)
	return c.SendString(p.Text)
}

// Headers sets the headers of a page. Its address may contain a token, so it is named to no other site.
func (p *Page) Headers(c *fiber.Ctx) {
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Set(fiber.HeaderContentSecurityPolicy, p.Policy)
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	c.Set(fiber.HeaderCacheControl, "no-store")
}

// Home shows what runs, and in development the demo person's work as it happens.
var Home = New(homeDocument, "", homeScript, CallsAndPictures)

// Graph draws the graph of a context for the owner of a token.
var Graph = New(graphDocument, "", graphScript, CallsAndPictures)
