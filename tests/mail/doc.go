// Package mail tests mail.
package mail
