#!/bin/sh
# github.com/pquerna/otp: the zero value of ValidateOpts.Digits means six digits when a code is generated, and zero digits when one is
# checked. So a code that the library made with some options is refused by the library with the same options, as input of the wrong length.
# With Digits named, both agree. Exit status 0: the behavior is still so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

func main() {
	const secret = "JBSWY3DPEHPK3PXP" // an example of RFC 4648's alphabet, no key of anything
	at := time.Unix(1_800_000_000, 0)
	accepted := map[otp.Digits]bool{}
	for _, digits := range []otp.Digits{0, otp.DigitsSix} {
		options := totp.ValidateOpts{Period: 30, Digits: digits}
		code, err := totp.GenerateCodeCustom(secret, at, options)
		if err != nil {
			panic(err)
		}
		ok, err := totp.ValidateCustom(code, secret, at, options)
		fmt.Printf("Digits %d: a code of %d digits is generated; with the same options it is accepted: %v, error: %v\n", int(digits), len(code), ok, err)
		accepted[digits] = ok
	}
	if accepted[0] || !accepted[otp.DigitsSix] {
		fmt.Println("changed")
		os.Exit(1)
	}
}
GO
go mod init finding >/dev/null 2>&1
go get github.com/pquerna/otp@v1.5.0 >/dev/null 2>&1
echo "github.com/pquerna/otp $(go list -m -f '{{.Version}}' github.com/pquerna/otp)"
go run .
