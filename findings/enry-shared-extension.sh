#!/bin/sh
# go-enry 2.9.6, GetLanguageByExtension: for an extension that several languages share it answers the first by alphabet, with safe=false
# as the only sign. The content decides only in GetLanguagesByContent and GetLanguageByClassifier, which the caller has to ask.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'M'
module finding

go 1.24
M
cat > main.go <<'M'
package main

import (
	"fmt"
	"os"

	"github.com/go-enry/go-enry/v2"
)

func main() {
	contract := []byte("// SPDX-License-Identifier: MIT\npragma solidity ^0.8.0;\ncontract A { uint x; }\n")
	by, safe := enry.GetLanguageByExtension("a.sol")
	content, _ := enry.GetLanguageByContent("a.sol", contract)
	fmt.Printf("by extension: %s (safe %v); by content: %s\n", by, safe, content)
	if by != "Gerber Image" || safe || content != "Solidity" {
		os.Exit(1)
	}
}
M
go get github.com/go-enry/go-enry/v2@v2.9.6 >/dev/null 2>&1
echo "go-enry v2.9.6"
echo "A Solidity contract is a Gerber image by its extension, and Solidity by its content:"
go run .
