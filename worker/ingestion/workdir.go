package ingestion

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// workdir is the local directory of a run (or of a chain of recoveries). A file lock keeps it to one worker: a worker that was suspended
// for so long that it lost its lease may resume and go on writing.
type workdir struct {
	path string
	lock *os.File
}

// openDir takes the directory of a run. While another worker still has it, openDir makes a directory for this lease only.
func openDir(root, name, owner string) (*workdir, error) {
	for _, name := range []string{name, name + "." + owner} {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("work directory: %w", err)
		}
		lock, ok, err := lockDir(dir)
		if err != nil {
			return nil, err
		}
		if ok {
			return &workdir{dir, lock}, nil
		}
	}
	return nil, errors.New("work directory: locked by others")
}

// lockDir locks a directory until the file is closed or the process dies.
func lockDir(dir string) (*os.File, bool, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("work directory: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, file.Close()
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("lock work directory: %w", err), file.Close())
	}
	return file, true, nil
}

func (w *workdir) file(name string) string { return filepath.Join(w.path, name) }

// done reports whether a step was finished here with exactly this input, and returns its outcome.
func (w *workdir) done(step, input string, outcome any) bool {
	data, err := os.ReadFile(w.file(step + ".json"))
	if err != nil {
		return false
	}
	var saved struct {
		Input   string          `json:"input"`
		Outcome json.RawMessage `json:"outcome"`
	}
	return json.Unmarshal(data, &saved) == nil && saved.Input == input && json.Unmarshal(saved.Outcome, outcome) == nil
}

// finish records that a step is done. The file appears complete or not at all.
func (w *workdir) finish(step, input string, outcome any) error {
	data, err := json.Marshal(map[string]any{"input": input, "outcome": outcome})
	if err != nil {
		return fmt.Errorf("finish %s: %w", step, err)
	}
	if err := os.WriteFile(w.file(step+".json.new"), data, 0o600); err != nil {
		return fmt.Errorf("finish %s: %w", step, err)
	}
	if err := os.Rename(w.file(step+".json.new"), w.file(step+".json")); err != nil {
		return fmt.Errorf("finish %s: %w", step, err)
	}
	return nil
}

// forget removes the record of a step, so that the step starts again.
func (w *workdir) forget(step string) error {
	if err := os.Remove(w.file(step + ".json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("begin %s: %w", step, err)
	}
	return nil
}

// close releases the directory; remove deletes it.
func (w *workdir) close(remove bool) error {
	if remove {
		return errors.Join(os.RemoveAll(w.path), w.lock.Close())
	}
	return w.lock.Close()
}
