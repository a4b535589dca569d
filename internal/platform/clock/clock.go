// Package clock tells the time to everything that has to know it, so that tests can move it. It is handed in by app;
// nothing else in the house calls time.Now for a decision. It never sleeps.
package clock

import (
	"sync"
	"time"
)

// Clock tells the present moment.
type Clock interface {
	// Now is the present moment in UTC, truncated to microseconds: what PostgreSQL keeps, so that a time read back
	// equals the one written (contract: schema.md, value conventions).
	Now() time.Time
}

// System is the clock of the machine.
type System struct{}

// Now implements Clock.
func (System) Now() time.Time { return Normalize(time.Now()) }

// Normalize is the form in which times are written and compared: UTC, whole microseconds.
func Normalize(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Fake is a clock that tests move by hand. Its zero value is not usable: see NewFake.
type Fake struct {
	mu  sync.Mutex
	now time.Time
}

// NewFake returns a clock that stands at t.
func NewFake(t time.Time) *Fake { return &Fake{now: Normalize(t)} }

// Now implements Clock.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Advance moves the clock by d.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = Normalize(f.now.Add(d))
}
