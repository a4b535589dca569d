package tasks

import "time"

// The tasks of the workflow. A launch tries for about as long as DEADLINE_LAUNCH lets it; polls and enquiries try on for
// longer, since the job's own deadline ends them.
var (
	// CountLaunch sends a count to QueryExecutor. Payload: Step.
	CountLaunch = Spec{Name: "count.launch", Queue: QueueCount, Timeout: 6 * time.Minute, MaxAttempts: 8,
		Backoff: Backoff{Base: time.Second, Cap: time.Minute}}
	// CountCancel asks QueryExecutor to stop a count. Payload: Step.
	CountCancel = Spec{Name: "count.cancel", Queue: QueueCount, Timeout: time.Minute, MaxAttempts: 6}
	// CohortLaunch sends a cohort creation to QueryExecutor; its handler never sends one twice. Payload: Step.
	CohortLaunch = Spec{Name: "cohort.launch", Queue: QueueCreate, Timeout: 6 * time.Minute, MaxAttempts: 8,
		Backoff: Backoff{Base: 2 * time.Second, Cap: time.Minute}}
	// CohortCancel asks QueryExecutor to stop a creation. Payload: Step.
	CohortCancel = Spec{Name: "cohort.cancel", Queue: QueueCreate, Timeout: time.Minute, MaxAttempts: 6}
	// JobEnquire asks the outside system about a job that has been silent for too long. Payload: Step. Each kind
	// registers the handler of its own: see engine.Kind.Enquire.
	JobEnquire = Spec{Name: "job.enquire", Queue: QueueDefault, Timeout: time.Minute, MaxAttempts: 4,
		Backoff: Backoff{Base: 5 * time.Second, Cap: time.Minute}}
	// ExportLaunch hands an export to the export API. Payload: Step.
	ExportLaunch = Spec{Name: "export.launch", Queue: QueueExport, Timeout: 2 * time.Minute, MaxAttempts: 8,
		Backoff: Backoff{Base: 2 * time.Second, Cap: time.Minute}}
	// ExportRun writes the files of an export by ourselves; it may take hours. Payload: Step.
	ExportRun = Spec{Name: "export.run", Queue: QueueLong, Timeout: 24 * time.Hour, MaxAttempts: 3,
		Backoff: Backoff{Base: 10 * time.Second, Cap: 5 * time.Minute}}
	// ExportPoll asks the export API once how far an export is. Payload: Step.
	ExportPoll = Spec{Name: "export.poll", Queue: QueueExport, Timeout: time.Minute, MaxAttempts: 20,
		Backoff: Backoff{Base: 2 * time.Second, Cap: 2 * time.Minute}}
	// Notify sends one notification. Payload: Notification.
	Notify = Spec{Name: "notify", Queue: QueueMail, Timeout: time.Minute, MaxAttempts: 10,
		Backoff: Backoff{Base: 5 * time.Second, Cap: 30 * time.Minute}}
)

// Default is a task of the least urgent queue, named "default.<verb>": periodic and administrative work.
func Default(verb string, timeout time.Duration) Spec {
	return Spec{Name: "default." + verb, Queue: QueueDefault, Timeout: timeout, MaxAttempts: 5,
		Backoff: Backoff{Base: 10 * time.Second, Cap: 10 * time.Minute}}
}

// Step is the payload of every task that a job owes: which job, of what, and for repeated steps (polls) how many times it
// has been done before, 0 at first.
type Step struct {
	JobID   string `json:"job_id"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Round   int    `json:"round,omitempty"`
}

// Notification is the payload of Notify: the row of engine_notification.
type Notification struct {
	ID string `json:"id"`
}

// Tick is the payload of a periodic task: the moment for which it was due, RFC 3339 in UTC.
type Tick struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

// The tasks of cohort that belong to no job, or to feasibility studies.
var (
	// StudyLaunch sends a feasibility study to QueryExecutor. Payload: Step.
	StudyLaunch = Spec{Name: "study.launch", Queue: QueueDefault, Timeout: 6 * time.Minute, MaxAttempts: 8,
		Backoff: Backoff{Base: 2 * time.Second, Cap: time.Minute}}
	// StudyCancel asks QueryExecutor to stop a study. Payload: Step.
	StudyCancel = Spec{Name: "study.cancel", Queue: QueueDefault, Timeout: time.Minute, MaxAttempts: 6}
	// RefreshRun counts a snapshot again for a schedule. Payload: Row, the schedule.
	RefreshRun = Spec{Name: "refresh.run", Queue: QueueCount, Timeout: time.Minute, MaxAttempts: 5,
		Backoff: Backoff{Base: 5 * time.Second, Cap: 5 * time.Minute}}
	// RefreshMail tells the owner of a schedule that its count ended well. Payload: Row, the count.
	RefreshMail = Spec{Name: "refresh.mail", Queue: QueueMail, Timeout: time.Minute, MaxAttempts: 10,
		Backoff: Backoff{Base: 5 * time.Second, Cap: 30 * time.Minute}}
	// ShareMail tells a recipient that a request was shared. Payload: Row, the recipient's request.
	ShareMail = Spec{Name: "share.mail", Queue: QueueMail, Timeout: time.Minute, MaxAttempts: 10,
		Backoff: Backoff{Base: 5 * time.Second, Cap: 30 * time.Minute}}
)

// Row is the payload of tasks about one row of a table that the task's name tells.
type Row struct {
	ID string `json:"id"`
}
