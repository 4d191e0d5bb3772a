package ingestion

// Names returns the words of a text as the index has them, in order: for each name the whole of it and then its parts, for each run of a script
// without blanks its pairs of letters. Words of one letter are left out.
func Names(text string) [][]string {
	var names [][]string
	runs(text, func(run string, paired bool) {
		if paired {
			pairs(run, func(pair, _ string) {
				if pair != "" {
					names = append(names, []string{pair})
				}
			})
			return
		}
		var name []string
		words(run, func(word string) { name = append(name, word) })
		if len(name) > 0 {
			names = append(names, name)
		}
	})
	return names
}
