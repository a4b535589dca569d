package qesim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cohortflow/internal/simulate/hospital"
)

// The states of a job. LongPending is only in the result: such a job is listed as finished.
const (
	Running     = "RUNNING"
	Finished    = "FINISHED"
	LongPending = "LONG_PENDING"
	Failed      = "ERROR"
	Killed      = "KILLED"
)

// job is one job. Its fields are written with Server.mu held; those with a JSON name are kept in the journal.
type job struct {
	ID      string    `json:"id"`
	Input   Input     `json:"input"`
	Status  string    `json:"status"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Result  *outcome  `json:"result,omitempty"`
	Message string    `json:"message,omitempty"`
	Called  bool      `json:"called"` // the callback was tried, or is not owed: nothing is left to do
	Attempt int       `json:"attempt,omitempty"`

	resumed bool
	kill    context.CancelFunc // while it runs
	done    chan struct{}      // closed once Called
}

// journal keeps the jobs on disk: one line for each change of one, the last line counts.
type journal struct {
	mu   sync.Mutex
	path string
}

// journalKept is how many settled jobs survive a restart.
const journalKept = 5000

// openJournal reads the jobs of the last run, in order of submission, and begins the file anew with them. A line that
// was cut off by a crash is dropped.
func openJournal(path string) (*journal, []*job, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	jobs := readJobs(data)
	if settled := len(jobs) - journalKept; settled > 0 {
		kept := jobs[:0]
		for _, j := range jobs {
			if settled--; settled < 0 || !j.Called {
				kept = append(kept, j)
			}
		}
		jobs = kept
	}
	var fresh bytes.Buffer
	for _, j := range jobs {
		line, err := json.Marshal(j)
		if err != nil {
			return nil, nil, err
		}
		fresh.Write(append(line, '\n'))
	}
	if err := hospital.WriteFile(path, fresh.Bytes()); err != nil {
		return nil, nil, err
	}
	return &journal{path: path}, jobs, nil
}

func readJobs(data []byte) []*job {
	var order []*job
	byID := map[string]*job{}
	lines := bufio.NewReader(bytes.NewReader(data))
	for {
		line, err := lines.ReadBytes('\n')
		j := &job{}
		if errors.Is(err, io.EOF) || json.Unmarshal(line, j) != nil {
			return order
		}
		if known, ok := byID[j.ID]; ok {
			*known = *j
			continue
		}
		byID[j.ID] = j
		order = append(order, j)
	}
}

func (l *journal) write(j *job) error {
	line, err := json.Marshal(j)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

// pool runs work on a fixed number of workers, first come first served, without limit to what waits. Jobs and callbacks
// share it, as in the real one: behind a backlog, the callbacks of finished jobs wait, too.
type pool struct {
	mu    sync.Mutex
	ready *sync.Cond
	queue []func(ctx context.Context)
}

func newPool() *pool {
	p := &pool{}
	p.ready = sync.NewCond(&p.mu)
	return p
}

func (p *pool) add(work func(ctx context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, work)
	p.ready.Signal()
}

// loop is one worker; it ends with ctx.
func (p *pool) loop(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ready.Broadcast()
	})
	defer stop()
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && ctx.Err() == nil {
			p.ready.Wait()
		}
		if ctx.Err() != nil {
			p.mu.Unlock()
			return
		}
		work := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		work(ctx)
	}
}

// update changes a job and notes it in the journal.
func (s *Server) update(j *job, change func(*job)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(j)
	if err := s.journal.write(j); err != nil {
		s.cfg.Log.Error("simulated QueryExecutor: journal", "job", j.ID, "error", err)
	}
}

// view is what the API shows of a job (contract: peers.md 2.5).
type view struct {
	Status    string `json:"status"`
	JobID     string `json:"jobId"`
	Context   string `json:"context"`
	StartTime string `json:"startTime"`
	Duration  string `json:"duration"`
	Result    any    `json:"result"`
	ClassPath string `json:"classPath"`
}

type resultView struct {
	Type    string            `json:"_type"`
	Message string            `json:"message"`
	GroupID string            `json:"group.id"`
	Count   int               `json:"count"`
	Extra   map[string]string `json:"extra"`
	Stack   string            `json:"stack"`
	Source  string            `json:"source"`
}

func (j *job) view() view {
	v := view{Status: j.Status, JobID: j.ID, StartTime: j.Started.Format("2006-01-02T15:04:05.000000Z07:00"),
		ClassPath: "fr.aphp.id.eds.requester.CountQuery"}
	if creates(j.Input.Mode) {
		v.ClassPath = "fr.aphp.id.eds.requester.CreateQuery"
	}
	if j.Status == Running || j.Ended.IsZero() {
		return v
	}
	v.Duration = fmt.Sprintf("%d ms", j.Ended.Sub(j.Started).Milliseconds())
	if j.Status == Killed {
		return v
	}
	r := resultView{Type: j.Input.Mode, Message: j.Message, Count: -1, Extra: map[string]string{}}
	if r.Type == CountAll {
		r.Type = "countAll"
	}
	if j.Result != nil {
		r.Message, r.Count = j.Result.Status, j.Result.Count
		if j.Result.Extra != nil {
			r.Extra = j.Result.Extra
		}
		if j.Result.GroupID != 0 {
			r.GroupID = fmt.Sprint(j.Result.GroupID)
		}
	}
	v.Result = []resultView{r}
	return v
}
