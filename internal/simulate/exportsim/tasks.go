package exportsim

import (
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/platform/clock"
)

// Tasks are the tasks of an API of the data platform: each is received, waits, runs and ends, by the clock. The work is
// done when its end is first noticed, once.
type Tasks struct {
	clock    clock.Clock
	duration time.Duration

	mu    sync.Mutex
	byID  map[string]*task
	order []string
}

type task struct {
	document string
	begun    time.Time
	work     func() error
	outcome  string // set once it was done
	stderr   string
}

// NewTasks makes an empty list; each task takes the duration.
func NewTasks(clk clock.Clock, duration time.Duration) *Tasks {
	return &Tasks{clock: clk, duration: duration, byID: map[string]*task{}}
}

// Add begins a task and returns its id.
func (t *Tasks) Add(document string, work func() error) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := uuid.NewString()
	t.byID[id] = &task{document: document, begun: t.clock.Now(), work: work}
	t.order = append(t.order, id)
	return id
}

// Documents are what the tasks were launched with, oldest first.
func (t *Tasks) Documents() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	documents := make([]string, len(t.order))
	for i, id := range t.order {
		documents[i] = t.byID[id].document
	}
	return documents
}

// ServeStatus answers task_status (contract: peers.md 5.2): 200 also for a task that nobody knows.
func (t *Tasks) ServeStatus(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("task_uuid")
	status, stderr := t.status(id)
	code := 0
	if stderr != "" {
		code = 1
	}
	Answer(w, http.StatusOK, map[string]any{"task_uuid": id, "task_status": status, "stdout": "simulated task", "stderr": stderr, "ret_code": code})
}

func (t *Tasks) status(id string) (status, stderr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.byID[id]
	if !ok {
		return "NotFound", ""
	}
	switch passed := t.clock.Now().Sub(k.begun); {
	case k.outcome != "":
	case passed < t.duration/4:
		return "Received", ""
	case passed < t.duration/2:
		return "Pending", ""
	case passed < t.duration:
		return "Running", ""
	default:
		k.outcome = "FinishedSuccessfully"
		if err := k.work(); err != nil {
			k.outcome, k.stderr = "FinishedWithError", err.Error()
		}
	}
	return k.outcome, k.stderr
}
