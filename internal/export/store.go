package export

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// Store holds the queries of exports. Deleted rows are seen by none of them.
type Store struct{ db *database.DB }

// NewStore reads and writes on db.
func NewStore(db *database.DB) *Store { return &Store{db: db} }

// Item is an export as lists show it.
type Item struct {
	Export
	Firstname, Lastname *string
	OwnerDeleted        *time.Time
	GroupID, CohortName *string
	PatientsCount       *int64
	DatalabName         *string
}

// Filter is what the list of exports may be narrowed by.
type Filter struct {
	OnlyOwner   string // "" lists everybody's
	Formats     []string
	Statuses    []string
	Owner       string
	Motivation  string
	Search      []string
	From, Until *time.Time
	Order       []web.Order
	WithTables  bool
}

// firstTable is the oldest table of an export that has a source cohort: the export is named after that cohort.
const firstTable = `LEFT JOIN export_table t ON t.uuid = (SELECT x.uuid FROM export_table x WHERE x.export_id = export.uuid
	AND x.deleted IS NULL AND x.cohort_result_source_id IS NOT NULL ORDER BY x.created_at, x.uuid LIMIT 1)
	LEFT JOIN cohort_cohortresult c ON c.uuid = t.cohort_result_source_id`

func (f Filter) apply(q *gorm.DB) *gorm.DB {
	q = q.Table("export").Joins(`JOIN "user" u ON u.username = export.owner_id`).Joins(firstTable).
		Joins("LEFT JOIN cohort_datedmeasure m ON m.uuid = c.dated_measure_id").
		Joins("LEFT JOIN datalab d ON d.uuid = export.datalab_id").Where("export.deleted IS NULL")
	if f.OnlyOwner != "" {
		q = q.Where("export.owner_id = ?", f.OnlyOwner)
	}
	if f.Formats != nil {
		q = q.Where("export.output_format IN ?", f.Formats)
	}
	if f.Statuses != nil {
		q = q.Where("export.request_job_status IN ?", f.Statuses)
	}
	if f.From != nil {
		q = q.Where("export.created_at >= ?", *f.From)
	}
	if f.Until != nil {
		q = q.Where("export.created_at <= ?", *f.Until)
	}
	if f.Owner != "" {
		q = q.Where(anyContains(f.Owner, "u.username", "u.firstname", "u.lastname"))
	}
	if f.Motivation != "" {
		q = q.Where(database.Contains("export.motivation", f.Motivation))
	}
	for _, term := range f.Search {
		q = q.Where(anyContains(term, "u.username", "u.firstname", "u.lastname", "export.motivation", "export.request_job_status",
			"export.output_format", "export.target_name", "d.name", "c.name", "c.group_id"))
	}
	return q
}

func anyContains(text string, columns ...string) clause.Expression {
	list := make([]clause.Expression, len(columns))
	for i, c := range columns {
		list[i] = database.Contains(c, text)
	}
	return clause.Or(list...)
}

var exportOrders = map[string]string{"created_at": "export.created_at", "modified_at": "export.modified_at", "output_format": "export.output_format",
	"status": "export.request_job_status", "patients_count": "m.measure", "owner": "u.firstname"}

// List is one page of exports: two queries, three with tables.
func (s *Store) List(ctx context.Context, f Filter, p web.Page) (listed[Item], error) {
	list, err := pageOf[Item](listing{what: "exports", query: f.apply(s.db.Read(ctx)), order: f.Order, by: exportOrders, last: "export.created_at, export.uuid",
		columns: `export.*, u.firstname, u.lastname, u.delete_datetime AS owner_deleted, c.group_id, c.name AS cohort_name, m.measure AS patients_count,
		d.name AS datalab_name`}, p)
	if err == nil && f.WithTables && len(list.rows) > 0 {
		err = s.attachTables(ctx, list.rows)
	}
	return list, err
}

func (s *Store) attachTables(ctx context.Context, items []Item) error {
	ids := make([]uuid.UUID, len(items))
	for i := range items {
		ids[i] = items[i].UUID
	}
	var tables []Table
	if err := s.db.Read(ctx).Where("export_id IN ? AND deleted IS NULL", ids).Order("created_at, uuid").Find(&tables).Error; err != nil {
		return fmt.Errorf("list tables of exports: %w", err)
	}
	byExport := map[uuid.UUID][]Table{}
	for _, t := range tables {
		byExport[t.ExportID] = append(byExport[t.ExportID], t)
	}
	for i := range items {
		items[i].Tables = byExport[items[i].UUID]
	}
	return nil
}

// Get is one export with its tables, in the order in which they were asked for. Two queries.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (Export, error) {
	return get(s.db.Read(ctx), id)
}

func get(q *gorm.DB, id uuid.UUID) (Export, error) {
	var e Export
	err := q.Preload("Tables", func(q *gorm.DB) *gorm.DB { return q.Where("deleted IS NULL").Order("created_at, uuid") }).
		Where("uuid = ? AND deleted IS NULL", id).Take(&e).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Export{}, fault.NotFound{Model: "Export"}
	}
	if err != nil {
		return Export{}, fmt.Errorf("find export: %w", err)
	}
	return e, nil
}

// cohort is what exports need to know of a cohort.
type cohort struct {
	UUID            uuid.UUID
	OwnerID         string
	Name            *string
	GroupID         string
	JobStatus       string `gorm:"column:request_job_status"`
	DatedMeasureID  *uuid.UUID
	SnapshotID      *uuid.UUID           `gorm:"column:request_query_snapshot_id"`
	PerimetersIDs   database.StringArray `gorm:"column:perimeters_ids"`
	SerializedQuery *string
}

const cohortColumns = `c.uuid, c.owner_id, c.name, c.group_id, c.request_job_status, c.dated_measure_id, c.request_query_snapshot_id, s.perimeters_ids, s.serialized_query`

// Cohorts are live cohorts by id. One query.
func (s *Store) Cohorts(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]cohort, error) {
	return cohorts(s.db.Read(ctx), ids)
}

func cohorts(q *gorm.DB, ids []uuid.UUID) (map[uuid.UUID]cohort, error) {
	found := map[uuid.UUID]cohort{}
	if len(ids) == 0 {
		return found, nil
	}
	var list []cohort
	err := q.Table("cohort_cohortresult c").Select(cohortColumns).Joins("LEFT JOIN cohort_requestquerysnapshot s ON s.uuid = c.request_query_snapshot_id").
		Where("c.uuid IN ? AND c.deleted IS NULL", ids).Find(&list).Error
	if err != nil {
		return nil, fmt.Errorf("find cohorts: %w", err)
	}
	for _, c := range list {
		found[c.UUID] = c
	}
	return found, nil
}

// filter is a saved FHIR filter.
type filter struct {
	UUID         uuid.UUID
	OwnerID      string
	FhirResource string
	Filter       string
}

// Filters are live FHIR filters by id. One query.
func (s *Store) Filters(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]filter, error) {
	found := map[uuid.UUID]filter{}
	if len(ids) == 0 {
		return found, nil
	}
	var list []filter
	if err := s.db.Read(ctx).Table("cohort_fhirfilter").Where("uuid IN ? AND deleted IS NULL", ids).Find(&list).Error; err != nil {
		return nil, fmt.Errorf("find filters: %w", err)
	}
	for _, f := range list {
		found[f.UUID] = f
	}
	return found, nil
}

// user is whom mails go to.
type user struct {
	Username            string
	Firstname, Lastname *string
	Email               *string
	DeleteDatetime      *time.Time
}

// User finds a user; a deleted one too.
func (s *Store) User(ctx context.Context, username string) (user, error) {
	var u user
	err := s.db.Read(ctx).Table("user").Where("username = ?", username).Take(&u).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return u, fault.NotFound{Model: "User"}
	}
	if err != nil {
		return u, fmt.Errorf("find user: %w", err)
	}
	return u, nil
}

// subsets are the states of the subsets of an export.
type subsets struct {
	failed, waiting []uuid.UUID // ids of tables
	none            bool
}

// subsetsOf looks at the subsets of an export's tables, in tx: any that has ended without being finished has failed.
func subsetsOf(tx *gorm.DB, exportID uuid.UUID) (subsets, error) {
	var rows []struct {
		UUID   uuid.UUID
		Status *string
	}
	err := tx.Table("export_table t").Select("t.uuid, c.request_job_status AS status").
		Joins("LEFT JOIN cohort_cohortresult c ON c.uuid = t.cohort_result_subset_id AND c.deleted IS NULL").
		Where("t.export_id = ? AND t.deleted IS NULL AND t.cohort_result_subset_id IS NOT NULL", exportID).Order("t.created_at").Find(&rows).Error
	if err != nil {
		return subsets{}, fmt.Errorf("look at the subsets of export %s: %w", exportID, err)
	}
	s := subsets{none: len(rows) == 0}
	for _, r := range rows {
		switch {
		case r.Status == nil:
			s.failed = append(s.failed, r.UUID)
		case *r.Status == statusFinished:
		case *r.Status == statusFailed || *r.Status == statusCancelled || *r.Status == statusUnknown || *r.Status == "denied":
			s.failed = append(s.failed, r.UUID)
		default:
			s.waiting = append(s.waiting, r.UUID)
		}
	}
	return s, nil
}

// exportsOfSubset are the exports one of whose tables waits for this subset, their jobs locked in the order of their ids: of
// two subsets that end at the same moment, the second sees the first.
func exportsOfSubset(tx *database.Tx, cohortID uuid.UUID) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := tx.Table("export_table").Where("cohort_result_subset_id = ? AND deleted IS NULL", cohortID).Distinct().Pluck("export_id", &ids).Error
	if err != nil {
		return nil, fmt.Errorf("find the exports of subset %s: %w", cohortID, err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	var locked []string
	err = database.ForUpdate(tx.DB).Table("engine_job").Where("kind = ? AND subject IN ?", KindName, texts).Order("id").Pluck("subject", &locked).Error
	if err != nil {
		return nil, fmt.Errorf("lock the exports of subset %s: %w", cohortID, err)
	}
	ids = ids[:0]
	for _, text := range locked {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("job of export %q: %w", strings.TrimSpace(text), err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// datalab is a live datalab.
func (s *Store) datalab(ctx context.Context, id uuid.UUID) (Datalab, error) {
	var d Datalab
	err := s.db.Read(ctx).Preload("Provider").Where("uuid = ? AND deleted IS NULL", id).Take(&d).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return d, fault.NotFound{Model: "Datalab"}
	}
	if err != nil {
		return d, fmt.Errorf("find datalab: %w", err)
	}
	return d, nil
}
