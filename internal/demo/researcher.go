package demo

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Researcher is somebody who is signed in and takes single steps of the workflow: for tests that need many of one step
// rather than the story. It is safe for concurrent use.
type Researcher struct{ api *client }

// SignIn signs in at the API of the given address, without a slash at the end.
func SignIn(ctx context.Context, base string, hc *http.Client, who Login) (*Researcher, error) {
	api, _, err := signIn(ctx, base, hc, who)
	if err != nil {
		return nil, err
	}
	return &Researcher{api}, nil
}

// At is the same person, with the same token, at another process of the API.
func (r *Researcher) At(base string) *Researcher {
	other := *r.api
	other.base = strings.TrimSuffix(base, "/")
	return &Researcher{&other}
}

// Question is a query that was written down: the uuids of its request and of its snapshot.
type Question struct{ Request, Snapshot string }

// Ask writes a query into a folder and a request of its own.
func (r *Researcher) Ask(ctx context.Context, name, query string) (q Question, err error) {
	q.Request, q.Snapshot, err = r.api.ask(ctx, name, query)
	return q, err
}

// Count asks for a count and returns its uuid.
func (r *Researcher) Count(ctx context.Context, q Question) (string, error) {
	var created row
	err := r.api.count(ctx, q.Request, q.Snapshot, &created)
	return created.UUID, err
}

// Create asks for a cohort of what was counted, and returns its uuid.
func (r *Researcher) Create(ctx context.Context, q Question, count, name string) (string, error) {
	var created row
	err := r.api.create(ctx, q.Request, q.Snapshot, count, name, &created)
	return created.UUID, err
}

// Socket is an open websocket.
type Socket struct{ socket *socket }

// OpenSocket opens the websocket and waits until its greeting is accepted.
func (r *Researcher) OpenSocket(ctx context.Context) (*Socket, error) {
	s, err := openSocket(ctx, r.api)
	if err != nil {
		return nil, err
	}
	return &Socket{s}, nil
}

// Close ends it.
func (s *Socket) Close() { s.socket.close() }

// Final waits for the message that tells the end of a job about a row, and returns its status and, of a count, the number.
func (s *Socket) Final(ctx context.Context, uuid string) (status string, measure *int, err error) {
	for {
		m, came, arrived, ended := s.socket.last(uuid)
		switch {
		case came:
			return m.Status, m.Info.Measure, nil
		case ended != nil:
			return "", nil, fmt.Errorf("the websocket has ended: %w", ended)
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return "", nil, fmt.Errorf("wait for a message about %s: %w", uuid, ctx.Err())
		}
	}
}

// Everybody is a query for all living patients below a perimeter, by its virtual cohort.
func Everybody(cohortID string) (string, error) { return broadQuery(cohortID) }
