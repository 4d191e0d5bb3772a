// Package frontend tests the client package (server/client): its build and size, a call of every function against a real server, and a
// React page in a browser.
package frontend
