// Command bm25 ranks texts by BM25 with bleve, as a yardstick for package retrieval. It reads {"documents": [...], "questions": [...], "limit": n}
// and writes for each question the places of the best documents. It is a module of its own, because bleve brings some thirty modules that the
// product does not need.
//
// bleve is the most used full-text library in Go that is kept up, and has BM25 since version 2.5. Its analyzer en splits words by Unicode's
// rules, drops stop words and stems by Porter's algorithm.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/blevesearch/bleve/v2"
	_ "github.com/blevesearch/bleve/v2/analysis/lang/en"
	index "github.com/blevesearch/bleve_index_api"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bm25:", err)
		os.Exit(1)
	}
}

func run() error {
	var in struct {
		Documents []string `json:"documents"`
		Questions []string `json:"questions"`
		Limit     int      `json:"limit"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	mapping := bleve.NewIndexMapping()
	mapping.DefaultAnalyzer = "en"
	mapping.ScoringModel = index.BM25Scoring
	mapping.StoreDynamic = false
	mapping.DocValuesDynamic = false
	ranked, err := bleve.NewMemOnly(mapping)
	if err != nil {
		return err
	}
	defer func() { _ = ranked.Close() }()
	batch := ranked.NewBatch()
	for i, text := range in.Documents {
		if err := batch.Index(strconv.Itoa(i), map[string]string{"text": text}); err != nil {
			return err
		}
		if batch.Size() == 500 || i == len(in.Documents)-1 {
			if err := ranked.Batch(batch); err != nil {
				return err
			}
			batch.Reset()
		}
	}
	out := make([][]int, len(in.Questions))
	for i, question := range in.Questions {
		query := bleve.NewMatchQuery(question)
		query.SetField("text")
		found, err := ranked.Search(bleve.NewSearchRequestOptions(query, in.Limit, 0, false))
		if err != nil {
			return err
		}
		out[i] = []int{}
		for _, hit := range found.Hits {
			n, err := strconv.Atoi(hit.ID)
			if err != nil {
				return err
			}
			out[i] = append(out[i], n)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
