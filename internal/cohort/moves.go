package cohort

import (
	"maps"

	"cohortflow/internal/engine"
	"cohortflow/tasks"
)

// The kinds of jobs of this capability, as the engine knows them and as websocket messages name them (cohort.md 20).
const (
	KindCount  = "count"  // subject: a dated measure
	KindCreate = "create" // subject: a cohort
	KindStudy  = "study"  // subject: a feasibility study
)

// States beyond the engine's common ones.
const (
	stateSending  engine.State = "sending"       // a creation is on its way to QueryExecutor, or nobody knows whether it is
	stateLarge    engine.State = "started_large" // QueryExecutor makes a cohort that will be indexed afterwards
	stateIndexing engine.State = "indexing"      // the cohort is made; the indexer has to end it
	stateIndexed  engine.State = "indexed"       // the indexer has ended before QueryExecutor told which list it has made
	stateUnknown  engine.State = "unknown"       // QueryExecutor says that it does not know how the job ended
)

// What happens to the jobs of this capability.
const (
	evLaunching  engine.EventName = "launching"   // a worker prepares the launch
	evSending    engine.EventName = "sending"     // the request leaves now
	evNotSent    engine.EventName = "not_sent"    // it certainly did not arrive
	evRefused    engine.EventName = "refused"     // the job can never be launched
	evUnusable   engine.EventName = "unusable"    // the launch got an answer that means nothing, or none at last
	evAccepted   engine.EventName = "accepted"    // QueryExecutor has the job
	evTakenLarge engine.EventName = "taken_large" // it has the creation of a large cohort
	evDone       engine.EventName = "done"        // QueryExecutor reports the result
	evIndexed    engine.EventName = "indexed"     // the indexer reports a large cohort
	evTooEarly   engine.EventName = "too_early"   // the indexer reports a cohort of which no list is known yet
	evLong       engine.EventName = "long"        // QueryExecutor made the list, the indexer goes on
	evBroken     engine.EventName = "broken"      // it failed
	evKilled     engine.EventName = "killed"      // it was stopped
	evLost       engine.EventName = "lost"        // status UNKNOWN
	evNonsense   engine.EventName = "nonsense"    // a report without a known status
	evGone       engine.EventName = "gone"        // asked about it, QueryExecutor does not know the job
	evFailedYet  engine.EventName = "failed_yet"  // asked about it, it says that the job failed; its own retry may still succeed
	evSuperseded engine.EventName = "superseded"  // a newer count of the same request was asked for
	evSized      engine.EventName = "sized"       // the cohort made of a count told its size
	evEdited     engine.EventName = "edited"      // the owner renamed the cohort: in no table, it only tells (cohort.md 9.4)
	evRejected   engine.EventName = "rejected"    // a report that cannot be used: in no table either, for the timeline
)

// Sentences for people, where nothing better is known.
const (
	reasonLaunch  = "The job could not be handed to QueryExecutor in time."
	reasonResult  = "QueryExecutor did not report a result in time."
	reasonIndex   = "The cohort was not indexed in time."
	reasonGone    = "QueryExecutor does not know this job any more."
	reasonDead    = "The job could not be launched because of a technical problem."
	reasonDeleted = "Deleted."
)

// ends are the moves to an end that every state under way has. stop is the task that stops the job outside.
func ends(overdue string, stop tasks.Spec) engine.On {
	return engine.On{
		evDone:             {To: engine.Finished},
		evBroken:           {To: engine.Failed},
		evKilled:           {To: engine.Cancelled},
		evLost:             {To: stateUnknown},
		evNonsense:         {To: engine.Failed},
		evGone:             {To: engine.GaveUp, Reason: reasonGone},
		evFailedYet:        {To: engine.GaveUp},
		engine.Overdue:     {To: engine.GaveUp, Reason: overdue},
		engine.CancelAsked: {To: engine.Cancelled, Owed: engine.Owes(stop)},
		engine.Deleted:     {To: engine.Cancelled, Owed: engine.Owes(stop)},
	}
}

// launchEnds are the further ends of a job that QueryExecutor does not have yet, as far as we know.
func launchEnds() engine.On {
	return engine.On{
		evRefused:       {To: engine.Failed},
		evUnusable:      {To: engine.GaveUp},
		engine.TaskDead: {To: engine.GaveUp, Reason: reasonDead},
	}
}

// with joins moves; the later ones win.
func with(parts ...engine.On) engine.On {
	all := engine.On{}
	for _, p := range parts {
		maps.Copy(all, p)
	}
	return all
}

// countMoves is the life of a count (contract: cohort.md 14.1, decisions 10, 29 and 30). A count may be sent again, so a lost
// answer is nothing special. An event without a row came late, twice or out of order.
func countMoves() engine.Table {
	superseded := engine.On{evSuperseded: {To: engine.Cancelled, Owed: engine.Owes(tasks.CountCancel)}, evSized: {To: engine.Finished}}
	launch := with(ends(reasonLaunch, tasks.CountCancel), launchEnds(), superseded, engine.On{
		evLaunching: {To: engine.Pending},
		evAccepted:  {To: engine.Started},
	})
	// An ended count takes the size of its cohort, and keeps its status (decision 20).
	size := func(state engine.State) engine.On { return engine.On{evSized: {To: state}} }
	revive := engine.On{evDone: {To: engine.Finished}} // we gave up, but a first success still counts
	return engine.Table{
		engine.Created: {Deadline: engine.DeadlineLaunch, On: launch},
		engine.Pending: {Deadline: engine.DeadlineLaunch, On: launch},
		engine.Started: {Deadline: engine.DeadlineCount, EnquireAfter: true, On: with(ends(reasonResult, tasks.CountCancel), superseded,
			engine.On{evAccepted: {To: engine.Started}})}, // the launch's answer after a report, or a sign of life
		engine.GaveUp: {On: with(revive, size(engine.GaveUp))},
		stateUnknown:  {On: with(revive, size(stateUnknown))},
		// Stopped while its launch was under way: now there is something to stop outside.
		engine.Cancelled: {On: with(size(engine.Cancelled), engine.On{evAccepted: {To: engine.Cancelled, Owed: engine.Owes(tasks.CountCancel)}})},
		engine.Failed:    {On: size(engine.Failed)},
		engine.Finished:  {On: size(engine.Finished)},
	}
}

// createMoves is the life of a cohort's creation (contract: cohort.md 14.2, decisions 10, 29 and 30). It is never sent twice
// unless the first was known to be refused: what is sending stays so until somebody reports or the deadline passes.
func createMoves() engine.Table {
	ready := engine.Move{To: engine.Finished, Tell: engine.Success}
	made := engine.On{
		evIndexed:  ready,
		evTooEarly: {To: stateIndexed},
		evLong:     {To: stateIndexing},
	}
	taken := engine.On{evAccepted: {To: engine.Started}, evTakenLarge: {To: stateLarge}}
	told := engine.On{evAccepted: {To: stateIndexed}, evTakenLarge: {To: stateIndexed}} // the answer to the launch comes last
	running := with(ends(reasonResult, tasks.CohortCancel), made)
	revive := with(made, engine.On{evDone: {To: engine.Finished}})
	return engine.Table{
		engine.Pending: {Deadline: engine.DeadlineLaunch, On: with(ends(reasonLaunch, tasks.CohortCancel), launchEnds(), made, taken,
			engine.On{evSending: {To: stateSending}})},
		stateSending: {Deadline: engine.DeadlineLaunch, On: with(ends(reasonLaunch, tasks.CohortCancel), launchEnds(), made, taken,
			engine.On{evNotSent: {To: engine.Pending}})},
		engine.Started: {Deadline: engine.DeadlineCohort, EnquireAfter: true, On: with(running, engine.On{evAccepted: {To: engine.Started}})},
		stateLarge:     {Deadline: engine.DeadlineLargeCohort, EnquireAfter: true, On: with(running, engine.On{evTakenLarge: {To: stateLarge}})},
		stateIndexing: {Deadline: engine.DeadlineLargeCohort, On: with(ends(reasonIndex, tasks.CohortCancel), engine.On{
			evIndexed: ready, evTooEarly: ready})},
		stateIndexed: {Deadline: engine.DeadlineLargeCohort, EnquireAfter: true, On: with(ends(reasonResult, tasks.CohortCancel), told, engine.On{
			evIndexed: ready, evLong: ready, evDone: ready})},
		engine.GaveUp: {On: revive},
		stateUnknown:  {On: revive},
		engine.Cancelled: {On: engine.On{
			evAccepted:   {To: engine.Cancelled, Owed: engine.Owes(tasks.CohortCancel)},
			evTakenLarge: {To: engine.Cancelled, Owed: engine.Owes(tasks.CohortCancel)},
		}},
		engine.Failed:   {},
		engine.Finished: {},
	}
}

// outcomeRequested is told when QueryExecutor has taken a feasibility study.
const outcomeRequested engine.Outcome = "requested"

// studyMoves is the life of a feasibility study (contract: cohort.md 12.2, 14.3). Its owner hears of the launch and of the end;
// a report that makes no sense is told as a failure, but the study goes on (12.4).
func studyMoves() engine.Table {
	failing := func(to engine.State, reason string) engine.Move {
		return engine.Move{To: to, Reason: reason, Tell: engine.Failure}
	}
	under := func(state engine.State, overdue string) engine.On {
		return with(ends(overdue, tasks.StudyCancel), engine.On{
			evDone:         {To: engine.Finished, Tell: engine.Success},
			evBroken:       failing(engine.Failed, ""),
			evNonsense:     failing(state, ""),
			evGone:         failing(engine.GaveUp, reasonGone),
			evFailedYet:    failing(engine.GaveUp, ""),
			engine.Overdue: failing(engine.GaveUp, overdue),
		})
	}
	launch := engine.On{
		evAccepted:      {To: engine.Started, Tell: outcomeRequested},
		evRefused:       failing(engine.Failed, ""),
		evUnusable:      failing(engine.GaveUp, ""),
		engine.TaskDead: failing(engine.GaveUp, reasonDead),
	}
	revive := engine.On{evDone: {To: engine.Finished, Tell: engine.Success}}
	return engine.Table{
		engine.Created: {Deadline: engine.DeadlineLaunch, On: with(under(engine.Created, reasonLaunch), launch)},
		engine.Started: {Deadline: engine.DeadlineFeasibility, EnquireAfter: true, On: with(under(engine.Started, reasonResult),
			engine.On{evAccepted: {To: engine.Started}})},
		engine.GaveUp:    {On: revive},
		stateUnknown:     {On: revive},
		engine.Cancelled: {On: engine.On{evAccepted: {To: engine.Cancelled, Owed: engine.Owes(tasks.StudyCancel)}}},
		engine.Failed:    {},
		engine.Finished:  {},
	}
}
