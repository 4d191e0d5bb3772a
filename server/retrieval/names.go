package retrieval

import (
	"regexp"
	"strconv"
	"strings"
)

const (
	maxReferences = 20
	// maxWords is how many words the name of a file or skill may have.
	maxWords = 8
	// maxName is the longest name in bytes.
	maxName = 300
)

var (
	ingestionNumber = regexp.MustCompile(`(?i)@ingestion\s*#\s*(\d{1,9})`)
	fileName        = regexp.MustCompile(`@([^\s@][^\n@]*)`)
	skillName       = regexp.MustCompile(`(?i)/skill:([^\n]*)`)
	skillWord       = regexp.MustCompile(`(?i)/skill:\S*`)
)

// references are what a question names.
type references struct {
	question string
	// files and skill are possible names, the longest first: names may have blanks, and a sentence goes on behind them.
	files   [][]string
	numbers []int
	skill   []string
	// rest is the question without numbers of ingestions and skills.
	rest string
}

func namesIn(question string) references {
	r := references{question: question, rest: question}
	for _, m := range ingestionNumber.FindAllStringSubmatch(question, maxReferences) {
		if n, err := strconv.Atoi(m[1]); err == nil {
			r.numbers = append(r.numbers, n)
		}
	}
	r.rest = ingestionNumber.ReplaceAllString(r.rest, " ")
	if m := skillName.FindStringSubmatch(r.rest); m != nil {
		r.skill = possible(m[1])
	}
	for _, m := range fileName.FindAllStringSubmatch(r.rest, maxReferences) {
		if names := possible(m[1]); len(names) > 0 {
			r.files = append(r.files, names)
		}
	}
	r.rest = skillWord.ReplaceAllString(r.rest, " ")
	return r
}

// possible returns the names that a text may begin with.
func possible(text string) []string {
	var names []string
	end := 0
	for range maxWords {
		from := len(text[:end]) + len(text[end:]) - len(strings.TrimLeft(text[end:], " \t"))
		if from >= len(text) {
			break
		}
		next := strings.IndexAny(text[from:], " \t")
		if next < 0 {
			end = len(text)
		} else {
			end = from + next
		}
		if end > maxName {
			break
		}
		name := strings.TrimSpace(text[:end])
		names = append(names, name)
		// A sentence may end behind the name.
		if bare := strings.TrimRight(name, ".,;:!?)]}\"'`"); bare != name && bare != "" {
			names = append(names, bare)
		}
	}
	for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
		names[i], names[j] = names[j], names[i]
	}
	// The whole is tried before what is left of it without its last sign.
	for i := 0; i+1 < len(names); i++ {
		if strings.HasPrefix(names[i+1], names[i]) {
			names[i], names[i+1] = names[i+1], names[i]
		}
	}
	return names
}

// without returns the question without the name of a skill that was found.
func (r *references) without(skill string) string {
	if skill == "" {
		return r.question
	}
	at := skillName.FindStringIndex(r.question)
	end := at[0] + len("/skill:") + len(skill)
	if end > len(r.question) {
		return r.question
	}
	return r.question[:at[0]] + strings.TrimLeft(r.question[end:], " ")
}
