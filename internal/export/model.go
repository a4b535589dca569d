// Package export takes cohorts out of the warehouse: it checks and keeps requests for exports, has subsets of cohorts made
// for their filtered tables, runs them (through the third-party export API and the Hadoop API, or by its own exporter that
// reads FHIR), serves and cleans their files, and keeps the datalabs, infrastructure providers and figures around them. The
// two front-ends call its routes, the engine's workers its jobs. It never creates cohorts or filters itself, never decides
// who may read which perimeter (see Rights), and never keeps patient data but in the files that were asked for.
// Contract: exports.md; schema.md 5.4; peers.md 5 to 7.
package export

import (
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/platform/database"
)

// Base is what all rows share: the key and the logical deletion (schema.md 3.3).
type Base struct {
	UUID             uuid.UUID  `gorm:"column:uuid;primaryKey"`
	Deleted          *time.Time `gorm:"column:deleted"`
	DeletedByCascade bool       `gorm:"column:deleted_by_cascade"`
	CreatedAt        time.Time  `gorm:"column:created_at;autoCreateTime:false"`
	ModifiedAt       time.Time  `gorm:"column:modified_at"`
}

// Export is a row of export.
type Export struct {
	Base
	OwnerID             string
	OutputFormat        string
	Motivation          *string
	Nominative          bool
	ShiftDates          bool
	GroupTables         bool
	DatalabID           *uuid.UUID
	TargetName          *string
	TargetLocation      *string
	IsUserNotified      bool
	CleanDatetime       *time.Time
	Retried             bool
	DataExporterVersion *string
	DataVersion         *string
	JobID               string  `gorm:"column:request_job_id"`
	JobStatus           string  `gorm:"column:request_job_status"`
	JobFailMsg          string  `gorm:"column:request_job_fail_msg"`
	JobDuration         string  `gorm:"column:request_job_duration"`
	Tables              []Table `gorm:"foreignKey:ExportID;references:UUID"`
}

// TableName implements gorm's Tabler.
func (Export) TableName() string { return "export" }

// path is where the export's result is, without its ending; "" when nobody said where.
func (e Export) path() string {
	if e.TargetName == nil || e.TargetLocation == nil || *e.TargetName == "" || *e.TargetLocation == "" {
		return ""
	}
	return *e.TargetLocation + "/" + *e.TargetName
}

func (e Export) target() string {
	if e.TargetName == nil {
		return ""
	}
	return *e.TargetName
}

// Table is a row of export_table.
type Table struct {
	Base
	ExportID                  uuid.UUID
	Name                      string
	RespectTableRelationships bool
	FhirFilterID              *uuid.UUID
	CohortResultSourceID      *uuid.UUID
	CohortResultSubsetID      *uuid.UUID
	Columns                   database.StringArray
	PivotMerge                bool
	PivotMergeColumns         database.StringArray
	PivotMergeIDs             database.StringArray `gorm:"column:pivot_merge_ids"`
}

// TableName implements gorm's Tabler.
func (Table) TableName() string { return "export_table" }

// Datalab is a row of datalab.
type Datalab struct {
	Base
	InfrastructureProviderID uuid.UUID
	Name                     string
	Provider                 Provider `gorm:"foreignKey:InfrastructureProviderID;references:UUID"`
}

// TableName implements gorm's Tabler.
func (Datalab) TableName() string { return "datalab" }

// Provider is a row of infrastructure_provider.
type Provider struct {
	Base
	Name string
}

// TableName implements gorm's Tabler.
func (Provider) TableName() string { return "infrastructure_provider" }

// Stat is a row of export_result_stat, a figure about an export.
type Stat struct {
	Base
	ExportID uuid.UUID
	Name     string
	Type     string
	Value    string
	Target   *string `gorm:"->;-:migration"` // the export's target name, in lists
}

// TableName implements gorm's Tabler.
func (Stat) TableName() string { return "export_result_stat" }

// The formats.
const (
	formatCSV  = "csv"
	formatXLSX = "xlsx"
	formatHive = "hive"
)

// The statuses that this capability writes (schema.md 3.6).
const (
	statusNew       = "new"
	statusPending   = "pending"
	statusStarted   = "started"
	statusFinished  = "finished"
	statusFailed    = "failed"
	statusCancelled = "cancelled"
	statusUnknown   = "unknown"
)

// personName is the table that every export must have.
const personName = "person"

// isPerson also knows the portal's name of it.
func isPerson(name string) bool { return name == personName || name == "patient" }
