// Package enginetest checks the tables of kinds without any I/O: a seeded random walk over duplicated, dropped and reordered
// events. Tests of every capability with a kind call Walk. It is for tests only.
package enginetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"cohortflow/internal/engine"
)

// Runs is the number of walks over one table.
const Runs = 10_000

// steps is the number of events of one walk.
const steps = 40

// Visit is one applied event of a walk.
type Visit struct {
	Event engine.EventName
	From  engine.State
	To    engine.State
	Move  engine.Move
}

// Invariant is a promise of one kind beyond those that hold for all: it reads the applied events of a whole walk and returns
// what is broken.
type Invariant func(walk []Visit) error

// Walk runs a kind's table through random events of its own vocabulary, each perhaps lost, repeated or overtaken, and fails
// the test if a promise is broken in any run:
//
//   - an ended job is only revived by an event that its state lists, and moves on no other;
//   - each outcome is told at most once (what the unique notification guarantees), and a job ends in at most one state
//     between two revivals;
//   - every state under way has a deadline, and Overdue alone brings the job to an end, in no more moves than there are
//     states: it never waits for ever;
//   - the same events in the same order lead to the same end.
func Walk(t *testing.T, kind engine.Kind, invariants ...Invariant) {
	t.Helper()
	initial := kind.Initial
	if initial == "" {
		initial = engine.Created
	}
	if err := kind.Table.Check(initial); err != nil {
		t.Fatalf("kind %s: %v", kind.Name, err)
	}
	vocabulary := append(kind.Table.Events(), engine.Overdue, engine.TaskDead, "an event of no table")
	for seed := range uint64(Runs) {
		random := rand.New(rand.NewPCG(seed, 29)) //nolint:gosec // a walk that can be repeated
		events := disturbed(random, vocabulary)
		walk, err := follow(kind.Table, initial, events)
		for _, check := range invariants {
			if err == nil {
				err = check(walk)
			}
		}
		if err != nil {
			t.Fatalf("kind %s, seed %d, events %v: %v", kind.Name, seed, events, err)
		}
	}
}

// disturbed makes a story and then loses, repeats and reorders its events, as networks and restarts do.
func disturbed(random *rand.Rand, vocabulary []engine.EventName) []engine.EventName {
	var events []engine.EventName
	for range steps {
		event := vocabulary[random.IntN(len(vocabulary))]
		switch random.IntN(10) {
		case 0: // lost
		case 1, 2: // repeated
			events = append(events, event, event)
		default:
			events = append(events, event)
		}
	}
	for i := range events {
		if random.IntN(4) == 0 { // overtaken by a later one
			j := min(i+1+random.IntN(5), len(events)-1)
			events[i], events[j] = events[j], events[i]
		}
	}
	return events
}

// follow applies the events as the engine does, and checks the promises on the way.
func follow(table engine.Table, at engine.State, events []engine.EventName) ([]Visit, error) {
	var walk []Visit
	finals := 0
	for _, event := range events {
		rule := table[at]
		move, allowed := table.Next(at, event)
		if !allowed {
			continue
		}
		if _, listed := rule.On[event]; !listed {
			return walk, fmt.Errorf("%s moves a job in %s, which does not list it", event, at)
		}
		walk = append(walk, Visit{event, at, move.To, move})
		switch {
		case rule.Ended() && !table[move.To].Ended():
			finals = 0 // revived
		case rule.Ended() && len(rule.On) == 0:
			return walk, fmt.Errorf("%s moves a job that is final in %s", event, at)
		case !rule.Ended() && table[move.To].Ended():
			finals++
		}
		if finals > 1 {
			return walk, fmt.Errorf("%s ends a second time", event)
		}
		at = move.To
		if err := ends(table, at); err != nil {
			return walk, fmt.Errorf("after %s: %w", event, err)
		}
	}
	return walk, nil
}

// ends makes sure that deadlines alone bring a job to an end.
func ends(table engine.Table, at engine.State) error {
	for range len(table) + 1 {
		rule := table[at]
		if rule.Ended() {
			return nil
		}
		move, ok := table.Next(at, engine.Overdue)
		if !ok {
			return fmt.Errorf("state %s waits for ever", at)
		}
		at = move.To
	}
	return fmt.Errorf("deadlines go round in a circle through %s", at)
}
