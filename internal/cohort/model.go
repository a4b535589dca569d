package cohort

import (
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/platform/database"
)

// Base is what all rows of this capability share: the key and the logical deletion (schema.md 3.3).
type Base struct {
	UUID             uuid.UUID  `gorm:"column:uuid;primaryKey"`
	Deleted          *time.Time `gorm:"column:deleted"`
	DeletedByCascade bool       `gorm:"column:deleted_by_cascade"`
	CreatedAt        time.Time  `gorm:"column:created_at;autoCreateTime:false"`
	ModifiedAt       time.Time  `gorm:"column:modified_at"`
}

// Work is what rows with a job share (schema.md 3.4): the projection of the engine's job for clients.
type Work struct {
	JobID       string `gorm:"column:request_job_id"`
	JobStatus   string `gorm:"column:request_job_status"`
	JobFailMsg  string `gorm:"column:request_job_fail_msg"`
	JobDuration string `gorm:"column:request_job_duration"`
}

// Folder is a row of cohort_folder.
type Folder struct {
	Base
	OwnerID     string
	Name        string
	Description *string
}

func (Folder) TableName() string { return "cohort_folder" }

// Request is a row of cohort_request.
type Request struct {
	Base
	OwnerID        string
	Name           string
	Description    string
	Favorite       bool
	ParentFolderID uuid.UUID
	SharedByID     *string
}

func (Request) TableName() string { return "cohort_request" }

// Snapshot is a row of cohort_requestquerysnapshot: one saved version of a request's query.
type Snapshot struct {
	Base
	OwnerID            string
	RequestID          uuid.UUID
	SerializedQuery    string
	TranslatedQuery    *string
	PreviousSnapshotID *uuid.UUID
	SharedByID         *string
	PerimetersIDs      database.StringArray `gorm:"column:perimeters_ids"`
	Version            int
	Name               *string
}

func (Snapshot) TableName() string { return "cohort_requestquerysnapshot" }

// SnapshotPatch is a row of cohort_requestquerysnapshotpatch: the text of a query before a change.
type SnapshotPatch struct {
	ID              int32 `gorm:"primaryKey"`
	SnapshotID      uuid.UUID
	UUID            string `gorm:"column:uuid"`
	SerializedQuery string
	PatchVersion    int
	CreatedAt       time.Time `gorm:"autoCreateTime:false"`
}

func (SnapshotPatch) TableName() string { return "cohort_requestquerysnapshotpatch" }

// Measure is a row of cohort_datedmeasure: one count.
type Measure struct {
	Base
	Work
	OwnerID                string
	RequestQuerySnapshotID uuid.UUID
	FhirDatetime           *time.Time
	Measure                *int64
	MeasureMin             *int64
	MeasureMax             *int64
	Extra                  database.JSON
	CountTaskID            string
	Mode                   *string
}

func (Measure) TableName() string { return "cohort_datedmeasure" }

// The modes of a count. Adopted rows may have none, which means an ordinary one.
const (
	modeSnapshot = "Snapshot"
	modeGlobal   = "Global"
)

func (m Measure) global() bool { return m.Mode != nil && *m.Mode == modeGlobal }

// Cohort is a row of cohort_cohortresult: one cohort.
type Cohort struct {
	Base
	Work
	OwnerID                string
	Name                   *string
	Description            *string
	Favorite               bool
	RequestQuerySnapshotID *uuid.UUID
	GroupID                string
	DatedMeasureID         *uuid.UUID
	DatedMeasureGlobalID   *uuid.UUID
	CreateTaskID           string
	IsSubset               bool
	ParentCohortID         *uuid.UUID
	SamplingRatio          *float64
}

func (Cohort) TableName() string { return "cohort_cohortresult" }

// The statuses of the contract's columns that this capability writes (schema.md 3.6).
const (
	statusNew         = "new"
	statusPending     = "pending"
	statusLongPending = "long_pending"
	statusStarted     = "started"
	statusFinished    = "finished"
	statusFailed      = "failed"
	statusCancelled   = "cancelled"
	statusUnknown     = "unknown"
)
