package gitfetch

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
)

// Progress is how far a fetch has come. Numbers never go down within one fetch.
type Progress struct {
	ReceivedBytes   int64
	ReceivedObjects int
	TotalObjects    int // 0 until the server has counted
	Percent         int // 0 to 100 of the transfer and of unpacking it
}

var (
	receiving = regexp.MustCompile(`^Receiving objects:\s+\d+% \((\d+)/(\d+)\)(?:, ([\d.]+) (bytes|KiB|MiB|GiB))?`)
	resolving = regexp.MustCompile(`^Resolving deltas:\s+(\d+)%`)
	unit      = map[string]float64{"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
)

// receivingShare is the part of Percent that the transfer takes; resolving deltas is the rest.
const receivingShare = 90

// meter merges git's own progress with the size of the directory, because git reports no bytes in the first moments. It
// calls report one call at a time.
type meter struct {
	mu     sync.Mutex
	now    Progress
	report func(Progress)
}

// line reads one line of git's standard error.
func (m *meter) line(text string) {
	if g := receiving.FindStringSubmatch(text); g != nil {
		done, _ := strconv.Atoi(g[1])
		total, _ := strconv.Atoi(g[2])
		size, _ := strconv.ParseFloat(g[3], 64)
		m.update(Progress{ReceivedObjects: done, TotalObjects: total, ReceivedBytes: int64(size * unit[g[4]]),
			Percent: done * receivingShare / max(total, 1)})
	} else if g := resolving.FindStringSubmatch(text); g != nil {
		percent, _ := strconv.Atoi(g[1])
		m.update(Progress{Percent: receivingShare + percent*(100-receivingShare)/100})
	}
}

// update raises the numbers and reports them when one has changed.
func (m *meter) update(p Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := Progress{
		ReceivedBytes:   max(m.now.ReceivedBytes, p.ReceivedBytes),
		ReceivedObjects: max(m.now.ReceivedObjects, p.ReceivedObjects),
		TotalObjects:    max(m.now.TotalObjects, p.TotalObjects),
		Percent:         min(max(m.now.Percent, p.Percent), 100),
	}
	if next != m.now && m.report != nil {
		m.report(next)
	}
	m.now = next
}

// dirSize adds up the files below dir. A file that disappears during the walk counts zero, because git renames files
// meanwhile.
func dirSize(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
