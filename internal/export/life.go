package export

import (
	"strconv"
	"time"

	"cohortflow/internal/engine"
	"cohortflow/tasks"
)

// KindName is the kind of the jobs of exports; their subject is the export's uuid.
const KindName = "export"

// The states besides the engine's. Clients see what projected says.
const (
	stateWaiting    engine.State = "waiting"   // for the subsets of its tables
	statePreparing  engine.State = "preparing" // the Hive database is being made
	statePrepared   engine.State = "prepared"  // it is there and ours
	stateLaunching  engine.State = "launching" // the export API is being asked: what became of that, only the answer tells
	stateUnsent     engine.State = "unsent"    // the export API could not be reached: asked again later
	stateReceived   engine.State = "received"  // the export API has it, and has not begun
	stateWriting    engine.State = "writing"   // we write the files ourselves
	outcomeReceived              = engine.Outcome("received")
)

// The events.
const (
	eventSubsetsReady engine.EventName = "subsets_ready"
	eventSubsetFailed engine.EventName = "subset_failed"
	eventRetrySubsets engine.EventName = "retry_subsets"
	eventPreparing    engine.EventName = "preparing"
	eventPrepared     engine.EventName = "prepared"
	eventSending      engine.EventName = "sending"
	eventUnsent       engine.EventName = "unsent"
	eventWriting      engine.EventName = "writing"
	eventAccepted     engine.EventName = "accepted"
	eventReceived     engine.EventName = "received"
	eventQueued       engine.EventName = "queued"
	eventRunning      engine.EventName = "running"
	eventDone         engine.EventName = "done"
	eventBroken       engine.EventName = "broken"
)

// What is told when nothing better is known.
const (
	reasonSubset    = "One or multiple cohort subsets has failed"
	reasonOverdue   = "Export terminated with an error: it did not end in time"
	reasonNoLaunch  = "Export terminated with an error: it could not be started in time"
	reasonNoSubsets = "Export terminated with an error: its cohort subsets were not ready in time"
	reasonDead      = "Export terminated with an error: it was tried too often"
)

// KindConfig is what the life of an export depends on.
type KindConfig struct {
	// BuiltIn has exports written by our own exporter: there is no export API.
	BuiltIn bool
	// PollEvery is the longest rest between two questions to an outside system about a job (10 s). The first come sooner.
	PollEvery time.Duration
	// TellAdmins has the administrators told of failures.
	TellAdmins bool
}

// Kind is the life of an export (exports.md 17). app registers it with the engine, and hands the engine to New.
func Kind(cfg KindConfig) engine.Kind {
	return engine.Kind{Name: KindName, Table: moves(cfg), Project: project, Notices: notices(cfg.TellAdmins)}
}

// moves is the table of states. The promise behind launching: the request that creates a job at the export API is announced
// before it is sent, and sent again only when it certainly was not (decision 30).
func moves(cfg KindConfig) engine.Table {
	if cfg.PollEvery <= 0 {
		cfg.PollEvery = 10 * time.Second
	}
	launch, begins := engine.Owes(tasks.ExportLaunch), engine.DeadlineLaunch
	if cfg.BuiltIn { // exports of our own wait for one another, perhaps for hours
		launch, begins = engine.Owes(tasks.ExportRun), engine.DeadlineExport
	}
	poll := engine.OwesAfter(tasks.ExportPoll, engine.Growing(cfg.PollEvery/5, cfg.PollEvery))
	again := engine.OwesAfter(tasks.ExportLaunch, engine.Growing(2*time.Second, time.Minute))
	failed := engine.Move{To: engine.Failed, Tell: engine.Failure}
	because := func(m engine.Move, reason string) engine.Move { m.Reason = reason; return m }
	ends := func(on engine.On) engine.On {
		on[eventBroken] = failed
		on[engine.TaskDead] = because(failed, reasonDead)
		on[engine.CancelAsked] = engine.Move{To: engine.Cancelled}
		return on
	}
	overdue := func(on engine.On, to engine.State, reason string) engine.On {
		on[engine.Overdue] = engine.Move{To: to, Tell: engine.Failure, Reason: reason}
		return ends(on)
	}
	beginning := func(tell engine.Outcome) engine.On {
		return overdue(engine.On{
			eventSending: {To: stateLaunching, Tell: tell},
		}, engine.Failed, reasonNoLaunch)
	}
	created := beginning(outcomeReceived)
	created[eventPreparing] = engine.Move{To: statePreparing, Owed: poll, Tell: outcomeReceived}
	created[eventWriting] = engine.Move{To: stateWriting, Tell: outcomeReceived}
	followed := func() engine.On {
		return overdue(engine.On{
			eventReceived: {To: stateReceived, Owed: poll},
			eventQueued:   {To: engine.Pending, Owed: poll},
			eventRunning:  {To: engine.Started, Owed: poll},
			eventDone:     {To: engine.Finished, Tell: engine.Success},
		}, engine.GaveUp, reasonOverdue)
	}
	retried := func(on engine.On) engine.On {
		on[engine.RetryAsked] = engine.Move{To: engine.Created, Owed: launch}
		on[eventRetrySubsets] = engine.Move{To: stateWaiting}
		return on
	}
	return engine.Table{
		stateWaiting: {Deadline: engine.DeadlineLargeCohort, On: overdue(engine.On{
			eventSubsetsReady: {To: engine.Created, Owed: launch},
			eventSubsetFailed: because(failed, reasonSubset),
		}, engine.Failed, reasonNoSubsets)},
		engine.Created: {Deadline: begins, On: created},
		statePreparing: {Deadline: engine.DeadlineExport, On: overdue(engine.On{
			eventRunning:  {To: statePreparing, Owed: poll},
			eventPrepared: {To: statePrepared, Owed: launch},
		}, engine.Failed, reasonNoLaunch)},
		statePrepared: {Deadline: engine.DeadlineLaunch, On: beginning("")},
		stateUnsent:   {Deadline: engine.DeadlineLaunch, On: beginning("")},
		stateLaunching: {Deadline: engine.DeadlineLaunch, On: overdue(engine.On{
			eventAccepted: {To: engine.Pending, Owed: poll},
			eventUnsent:   {To: stateUnsent, Owed: again},
		}, engine.GaveUp, reasonNoLaunch)},
		stateReceived:  {Deadline: engine.DeadlineExport, On: followed()},
		engine.Pending: {Deadline: engine.DeadlineExport, On: followed()},
		engine.Started: {Deadline: engine.DeadlineExport, On: followed()},
		stateWriting: {Deadline: engine.DeadlineExport, On: overdue(engine.On{
			eventDone: {To: engine.Finished, Tell: engine.Success},
		}, engine.GaveUp, reasonOverdue)},
		// Clients see failed; a success that comes after all still counts (decision 10).
		engine.GaveUp:    {On: retried(engine.On{eventDone: {To: engine.Finished, Tell: engine.Success}})},
		engine.Failed:    {On: retried(engine.On{})},
		engine.Cancelled: {On: retried(engine.On{})},
		engine.Finished:  {},
	}
}

// projected is what clients see of a state.
func projected(s engine.State) string {
	switch s {
	case engine.Pending:
		return statusPending
	case engine.Started, stateWriting:
		return statusStarted
	case engine.Finished:
		return statusFinished
	case engine.Failed, engine.GaveUp:
		return statusFailed
	case engine.Cancelled:
		return statusCancelled
	}
	return statusNew
}

// The channels of notifications, before the colon.
const (
	channelOwner  = "mail"
	channelAdmins = "mail-admins"
)

// adminsRecipient stands for all addresses of ADMINS.
const adminsRecipient = "administrators"

// notices says who is told what. An export that is tried again is told of again: the channel names the version of the job,
// which is the same for one outcome of one try, since the table tells each of them once.
func notices(admins bool) func(engine.Change, engine.Outcome) []engine.Notice {
	return func(c engine.Change, outcome engine.Outcome) []engine.Notice {
		try := ":" + strconv.FormatInt(c.After.Version, 10)
		list := []engine.Notice{{Channel: channelOwner + try, Recipient: c.After.Owner}}
		if outcome == engine.Failure && admins {
			list = append(list, engine.Notice{Channel: channelAdmins + try, Recipient: adminsRecipient})
		}
		return list
	}
}
