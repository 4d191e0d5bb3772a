#!/bin/sh
# tiktoken-go/tokenizer counts one token too many for a stretch of lines of only blanks in o200k_base.
#
# The encoding's split expression has the alternative \s*[\r\n]+, which takes a run of white space up to its LAST line end. The
# matcher that the Go library has generated ends the run after its FIRST line ends where blanks and another line end follow. It
# also passes over U+007F in some places. OpenAI's own code (tiktoken, here compiled to WebAssembly) does neither.
# Exit status 0: the behavior is still so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

mkdir go js
cat > go/main.go <<'GO'
package main

import (
	"fmt"

	"github.com/tiktoken-go/tokenizer"
)

func main() {
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		panic(err)
	}
	for _, text := range []string{"alpha\n\t\nbeta\n", "x\n \n \ny\n", "a\u007fb", "alpha\n\nbeta\n"} {
		n, err := codec.Count(text)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%q %d\n", text, n)
	}
}
GO
cd go
go mod init finding >/dev/null 2>&1
go get github.com/tiktoken-go/tokenizer@v0.10.0 >/dev/null 2>&1
echo "github.com/tiktoken-go/tokenizer $(go list -m -f '{{.Version}}' github.com/tiktoken-go/tokenizer)"
go run . | tee ../library
cd ../js

npm init -y >/dev/null
npm install --silent --no-audit --no-fund tiktoken@1.0.22 >/dev/null
cat > main.js <<'JS'
const encoding = require("tiktoken").get_encoding("o200k_base");
for (const text of ["alpha\n\t\nbeta\n", "x\n \n \ny\n", "a\u007fb", "alpha\n\nbeta\n"])
  console.log(encoding.encode_ordinary(text).length);
JS
echo "tiktoken (npm) $(node -p "JSON.parse(require(\"fs\").readFileSync(\"node_modules/tiktoken/package.json\")).version")"
node main.js | tee ../reference

cd ..
awk '{print $NF}' library > counts
echo "library minus reference, for a line with a tab, two lines with a blank, U+007F, and an empty line:"
difference=$(paste counts reference | awk '{printf "%d ", $1 - $2}')
echo "$difference"
[ "$difference" = "1 1 -1 0 " ]
