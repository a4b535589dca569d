package app

import (
	"context"
	"sync"
	"time"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

// mailError tells the administrators of a request that ended in an error of ours (system.md 14.5).
var mailError = tasks.Spec{Name: "mail.server_error", Queue: tasks.QueueMail, Timeout: time.Minute, MaxAttempts: 5, Backoff: tasks.Backoff{Base: 30 * time.Second, Cap: 30 * time.Minute}}

// serverError is the payload: nothing of the request but its route.
type serverError struct {
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Route  string    `json:"route"`
	Others int       `json:"others"`
}

const (
	// alarmRest is for how long no further mail is sent about the same route, and the span in which alarmMost are sent.
	alarmRest = time.Hour
	alarmMost = 10
	// alarmTimeout bounds the writing of the owed mail: the request waits for it, perhaps because the database is down.
	alarmTimeout = time.Second
)

// alarms decides which failed requests are worth a mail, in one process: one a route and hour, ten an hour. Mails count the
// others.
type alarms struct {
	mu     sync.Mutex
	last   map[string]time.Time // by method and route
	others int
}

func newAlarms() *alarms { return &alarms{last: map[string]time.Time{}} }

// worth tells whether a failure is worth a mail, and how many were not since the last one.
func (l *alarms) worth(route string, now time.Time) (others int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, at := range l.last {
		if now.Sub(at) >= alarmRest {
			delete(l.last, name)
		}
	}
	if _, lately := l.last[route]; lately || len(l.last) >= alarmMost {
		l.others++
		return 0, false
	}
	l.last[route] = now
	others, l.others = l.others, 0
	return others, true
}

// failed is web's word that a request ended in an error of ours. The cause is in the log, and stays there.
func (a *App) failed(ctx context.Context, method, route string) {
	if a.alarms == nil {
		return
	}
	now := a.opts.Clock.Now()
	others, ok := a.alarms.worth(method+" "+route, now)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), alarmTimeout)
	defer cancel()
	err := a.db.Update(ctx, func(tx *database.Tx) error {
		_, err := a.parts.engine.Owe(ctx, tx, engine.Task{Spec: mailError, Payload: serverError{At: now, Method: method, Route: route, Others: others}})
		return err
	})
	if err != nil {
		a.log.WarnContext(ctx, "the administrators are not told of a failed request", "route", route, "error", err)
	}
}
