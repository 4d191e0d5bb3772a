package ingestion

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"parseURLOf_file2 x": "parseurlof_file2 parse url of file2 file",
		"MAX_SIZE":           "max_size max size",
		"grüße, welt":        "grüße welt",
		"a b c":              "",
		"__init__":           "__init__ init",
		"HTTPServer":         "httpserver http server",
		"sha256sum":          "sha256sum sha 256 sum",
		"max-retry.v2":       "max retry v2",
		"检查库存":               "检查 查库 库存 存",
		"库":                  "库",
		"注文テーブル":             "注文 文テ テー ーブ ブル ル",
		"ｶﾞｲﾄﾞ":              "ガイ イド ド",
		"재고 확인":              "재고 고 확인 인",
		"ที่อยู่":            "ที่อ อยู่ ยู่",
		"注文order第12章":        "注文 文 order 第 12 章",
		"cafe\u0301 naïve":   "café naïve",
		"हिन्दी में":         "हिन्दी में",
		"\u0301x\u0301y":     "x\u0301y",
	} {
		var got []string
		words(text, func(w string) { got = append(got, w) })
		require.Equal(t, want, strings.Join(got, " "), text)
	}
}

func TestTermsAreWeighedAndBounded(t *testing.T) {
	v := termsOf("src/user.go", []string{"LoadUser"}, strings.Repeat("user ", 1000))
	for _, l := range v.Lexemes {
		require.LessOrEqual(t, len(l.Positions), maxPositions)
		if l.Word == "user" {
			require.Equal(t, []byte("AB"), []byte{byte(l.Positions[0].Weight), byte(l.Positions[1].Weight)})
		}
	}
	long := strings.Repeat("漢字検索", 200)
	require.Len(t, termsOf("", nil, long).Lexemes, 5, "a long run is indexed, each pair once, and its last letter")
}

func TestQueriesSplitWordsAsTheIndexDoes(t *testing.T) {
	for text, want := range map[string]string{
		"it ss load_user":      `'it' & 'ss' & ('load_user' | 'load' & 'user')`,
		"parseURL url":         `('parseurl' | 'parse' & 'url')`,
		"SHA256":               `('sha256' | 'sha' & '256')`,
		"max-retry count":      `'max' & 'retry' & 'count'`,
		"; - +":                "",
		"检查库存 cafe\u0301":      `('检查' & '查库' & '库存' | '检查库存') & 'café'`,
		"库 库存":                 `'库':* & '库存'`,
		`"loads a getUser" x1`: `('loads' <-> 'getuser' <-> 'get' <-> 'user') & 'x1'`,
		`"检查库存"`:               `('检查' <-> '查库' <-> '库存')`,
		`"库" "`:                `('库':*)`,
		`it "is open`:          `'it' & 'is' & 'open'`,
		`it's "" \`:            `'it'`,
		`<-> !a & (| :*`:       "",
	} {
		require.Equal(t, want, Query(text, 9), text)
	}
	long := strings.Repeat("漢字検索", 200)
	require.NotContains(t, Query(long, 9), "|")
	require.Equal(t, 8, strings.Count(Query(strings.Repeat("one two three four five six seven eight nine ten ", 1000), 9), "&"), "no query is longer than its limit")
	require.LessOrEqual(t, strings.Count(Query(`"`+strings.Repeat("one twoThree ", 1000)+`"`, 9), "<->"), 9)
	require.LessOrEqual(t, strings.Count(Query(strings.Repeat(`"one two" aB1c2 `, 1000), 9), "'"), 4*9*2)
}

func TestOrderedKeepsOrderAndStopsAtTheFirstError(t *testing.T) {
	var got []int
	err := ordered(context.Background(), 100, 4, func(_ context.Context, i int) (int, error) { return i * i, nil },
		func(i, v int) error { got = append(got, v); return nil })
	require.NoError(t, err)
	require.True(t, slices.IsSorted(got))
	require.Len(t, got, 100)
	broken := errors.New("broken")
	require.ErrorIs(t, ordered(context.Background(), 100, 4, func(_ context.Context, i int) (int, error) {
		if i == 7 {
			return 0, broken
		}
		return i, nil
	}, func(int, int) error { return nil }), broken)
	var n atomic.Int32
	require.ErrorIs(t, each(context.Background(), 100, 4, func(_ context.Context, i int) error {
		if n.Add(1) > 5 {
			return broken
		}
		return nil
	}), broken)
}

func TestFailuresHaveTheContractsCodes(t *testing.T) {
	f := asFailure(phaseParse, "PARSING_FAILED", errors.New("disk full"))
	require.Equal(t, "PARSING_FAILED", f.Code)
	require.True(t, f.Retryable)
	require.NotContains(t, f.Message, "disk", "technical causes are not for users")
	require.Equal(t, "TIMEOUT", asFailure(phaseIndex, "INDEXING_FAILED", context.DeadlineExceeded).Code)
	g := asFailure(phaseFetch, "REPO_FETCH_FAILED", gitfetch.Invalid("The archive is encrypted."))
	require.Equal(t, "INVALID_FORMAT", g.Code)
	require.False(t, g.Retryable)
	for attempt, want := range map[int]time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 9: 16 * time.Second} {
		d := phaseInfos[phaseFetch].delay(attempt, 0)
		require.InDelta(t, want.Seconds(), d.Seconds(), 0.1*want.Seconds()+0.001)
	}
	require.Equal(t, time.Minute, phaseInfos[phaseFetch].delay(1, time.Minute), "what the host asks for comes first")
}

func TestIDsAscendAndAreTheRunsOwn(t *testing.T) {
	r := &task{RunID: uuid.MustParse("12345678-9abc-4def-8123-456789abcdef")}
	a, b := r.id(kindChunk, 255), r.id(kindChunk, 256)
	require.Less(t, a.String(), b.String())
	require.Equal(t, a, beforeID(b))
	require.Equal(t, r.RunID[:10], a[:10])
	require.NotEqual(t, r.id(kindFile, 1), r.id(kindChunk, 1))
}

func TestWorkdirBelongsToOneWorker(t *testing.T) {
	root := t.TempDir()
	first, err := openDir(root, "run", "a")
	require.NoError(t, err)
	second, err := openDir(root, "run", "b")
	require.NoError(t, err)
	require.NotEqual(t, first.path, second.path, "while one works in it, another gets its own")
	require.NoError(t, first.finish("step", "input", 7))
	var n int
	require.True(t, first.done("step", "input", &n))
	require.Equal(t, 7, n)
	require.False(t, first.done("step", "other input", &n))
	require.NoError(t, first.forget("step"))
	require.False(t, first.done("step", "input", &n))
	require.NoError(t, first.close(false))
	third, err := openDir(root, "run", "c")
	require.NoError(t, err)
	require.Equal(t, first.path, third.path)
	require.NoError(t, third.close(true))
	require.NoDirExists(t, third.path)
}
