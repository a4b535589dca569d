package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"cohortflow/internal/app"
)

// secrets are made once and kept in the data directory, readable by its owner only.
type secrets struct {
	Application   string `json:"application"`
	Signing       string `json:"signing"`
	QueryExecutor string `json:"query_executor"`
	ETL           string `json:"etl"`
	FHIR          string `json:"fhir"`
	Admin         string `json:"admin_password"`
	Researcher    string `json:"researcher_password"`
}

// directory is where everything of an embedded installation is kept: one process at a time.
type directory struct {
	path string
	lock *os.File
}

// openDirectory makes the directory, or takes one that a former run left; another process that runs in it is refused.
func openDirectory(path string, reset bool) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("another cohortflow runs in %s", path)
	}
	d := &directory{path: path, lock: lock}
	if reset {
		if err := d.empty(); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

// ours are the names of what we keep there: a reset deletes nothing else, should somebody name a directory of theirs.
var ours = []string{"cohortflow.db", "cohortflow.db-wal", "cohortflow.db-shm", "secrets.json", "simulators", "files", "cohortflow.log"}

func (d *directory) empty() error {
	for _, name := range ours {
		if err := os.RemoveAll(d.file(name)); err != nil {
			return fmt.Errorf("reset the data directory: %w", err)
		}
	}
	return nil
}

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

func (d *directory) close() error { return d.lock.Close() }

// secrets reads what a former run made, or makes it.
func (d *directory) secrets() (s secrets, err error) {
	raw, err := os.ReadFile(d.file("secrets.json"))
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, &s); err != nil {
			return s, fmt.Errorf("read %s: %w", d.file("secrets.json"), err)
		}
		return s, nil
	case !errors.Is(err, fs.ErrNotExist):
		return s, fmt.Errorf("read the secrets: %w", err)
	}
	for _, field := range []*string{&s.Application, &s.Signing, &s.QueryExecutor, &s.ETL, &s.FHIR, &s.Admin, &s.Researcher} {
		if *field, err = app.RandomSecret(); err != nil {
			return s, err
		}
	}
	s.Admin, s.Researcher = s.Admin[:12], s.Researcher[:12] // to be typed by people
	if raw, err = json.MarshalIndent(s, "", "  "); err != nil {
		return s, fmt.Errorf("write the secrets: %w", err)
	}
	if err := os.WriteFile(d.file("secrets.json"), raw, 0o600); err != nil {
		return s, fmt.Errorf("write the secrets: %w", err)
	}
	return s, nil
}
