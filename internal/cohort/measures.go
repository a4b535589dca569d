package cohort

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
	"cohortflow/tasks"
)

// measureView is a count as clients see it (cohort.md 8.1).
type measureView struct {
	UUID                 uuid.UUID     `json:"uuid"`
	Owner                string        `json:"owner"`
	RequestQuerySnapshot uuid.UUID     `json:"request_query_snapshot"`
	CountOutdated        bool          `json:"count_outdated"`
	CohortLimit          int64         `json:"cohort_limit"`
	Deleted              *web.Datetime `json:"deleted"`
	DeletedByCascade     bool          `json:"deleted_by_cascade"`
	RequestJobID         string        `json:"request_job_id"`
	RequestJobStatus     string        `json:"request_job_status"`
	RequestJobFailMsg    string        `json:"request_job_fail_msg"`
	RequestJobDuration   string        `json:"request_job_duration"`
	CreatedAt            web.Datetime  `json:"created_at"`
	ModifiedAt           web.Datetime  `json:"modified_at"`
	FhirDatetime         *web.Datetime `json:"fhir_datetime"`
	Measure              *int64        `json:"measure"`
	MeasureMin           *int64        `json:"measure_min"`
	MeasureMax           *int64        `json:"measure_max"`
	Extra                database.JSON `json:"extra"`
	CountTaskID          string        `json:"count_task_id"`
	Mode                 *string       `json:"mode"`
}

func (s *Service) measureView(m Measure) measureView {
	return measureView{
		UUID: m.UUID, Owner: m.OwnerID, RequestQuerySnapshot: m.RequestQuerySnapshotID,
		CountOutdated: s.clock.Now().Sub(m.CreatedAt) > s.cfg.CountValidity, CohortLimit: s.cfg.SizeLimit,
		Deleted: web.DatetimeOf(m.Deleted), DeletedByCascade: m.DeletedByCascade,
		RequestJobID: m.JobID, RequestJobStatus: m.JobStatus, RequestJobFailMsg: m.JobFailMsg, RequestJobDuration: m.JobDuration,
		CreatedAt: web.Datetime(m.CreatedAt), ModifiedAt: web.Datetime(m.ModifiedAt), FhirDatetime: web.DatetimeOf(m.FhirDatetime),
		Measure: m.Measure, MeasureMin: m.MeasureMin, MeasureMax: m.MeasureMax, Extra: m.Extra, CountTaskID: m.CountTaskID, Mode: m.Mode,
	}
}

// measuresOf reads the counts that are shown with snapshots, the newest first, by snapshot.
func (s *Service) measuresOf(ctx context.Context, snapshotIDs []uuid.UUID) (map[uuid.UUID][]measureView, error) {
	if len(snapshotIDs) == 0 {
		return nil, nil
	}
	g := s.db.Read(ctx)
	var rows []Measure
	err := live[Measure](g).Where(within(g, "cohort_datedmeasure.request_query_snapshot_id", snapshotIDs)).Where(shownMeasure).
		Order("cohort_datedmeasure.created_at DESC, cohort_datedmeasure.uuid DESC").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list counts of snapshots: %w", err)
	}
	by := map[uuid.UUID][]measureView{}
	for _, m := range rows {
		by[m.RequestQuerySnapshotID] = append(by[m.RequestQuerySnapshotID], s.measureView(m))
	}
	return by, nil
}

// countBody documents what may be written.
type countBody struct {
	RequestQuerySnapshot uuid.UUID `json:"request_query_snapshot"`
	StageDetails         *string   `json:"stageDetails"`
}

// reportBody documents what machines report about a count (cohort.md 19.1).
type reportBody struct {
	RequestJobStatus string         `json:"request_job_status"`
	Count            string         `json:"count"`
	Minimum          string         `json:"minimum"`
	Maximum          string         `json:"maximum"`
	Extra            map[string]any `json:"extra"`
	Message          string         `json:"message"`
}

// visible are the rows of jobs that a caller sees: their own, or for the machines that report, everybody's, subsets too.
func visible[T tabler](g *gorm.DB, caller identity.Caller) *gorm.DB {
	if !reports(caller) {
		return owned[T](g, caller.Username)
	}
	var row T
	return g.Model(&row).Where(row.TableName() + ".deleted IS NULL")
}

// reports tells whether the caller is one of the machines that report jobs (cohort.md 2.2).
func reports(caller identity.Caller) bool {
	return caller.Applicative == identity.QueryExecutor || caller.Applicative == identity.SolrETL
}

func (a *api) listMeasures(c *gin.Context) error {
	p := web.OffsetPage(c)
	rows, total, err := page[Measure](visible[Measure](a.db.Read(c.Request.Context()), identity.CallerOf(c)), nil, p)
	if err != nil {
		return err
	}
	views := make([]measureView, len(rows))
	for i, m := range rows {
		views[i] = a.measureView(m)
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, p, total, views))
	return nil
}

func (a *api) getMeasure(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	m, err := a.measure(c.Request.Context(), identity.CallerOf(c), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, a.measureView(m))
	return nil
}

func (s *Service) measure(ctx context.Context, caller identity.Caller, id uuid.UUID) (Measure, error) {
	return take[Measure](visible[Measure](s.db.Read(ctx), caller).Where("cohort_datedmeasure.uuid = ?", id))
}

func (a *api) createMeasure(c *gin.Context) error {
	f, err := fieldsOf(c, false, nil, "owner", "request_query_snapshot")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	checkOwner(f, caller)
	snap, err := refer[Snapshot](a.db.Read(ctx), f, "request_query_snapshot", caller.Username, f.Ref("request_query_snapshot", web.Required))
	if err != nil {
		return err
	}
	stage := f.String("stageDetails", web.Nullable, web.Blank, web.MaxLen(10000))
	if err := f.Err(); err != nil {
		return err
	}
	m, err := a.Count(ctx, caller, *snap, stage.Or(""))
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, a.measureView(m))
	return nil
}

// Count asks for a count of a snapshot of the caller's, and ends the counts of the same request that still run (cohort.md 8.2,
// 15.3): row, job and owed steps are one transaction.
func (s *Service) Count(ctx context.Context, caller identity.Caller, snap Snapshot, stage string) (Measure, error) {
	m := s.newMeasure(caller.Username, snap.UUID, modeSnapshot)
	sec := secretOf(caller)
	sec.Stage = stage
	err := s.db.Update(ctx, func(tx *database.Tx) error {
		if err := s.supersede(ctx, tx, snap.RequestID); err != nil {
			return err
		}
		return s.openCount(ctx, tx, m, sec)
	})
	if err != nil {
		return m, fmt.Errorf("count snapshot %s: %w", snap.UUID, err)
	}
	return m, nil
}

func (s *Service) newMeasure(owner string, snapshotID uuid.UUID, mode string) Measure {
	return Measure{Base: s.base(), Work: Work{JobStatus: statusNew}, OwnerID: owner, RequestQuerySnapshotID: snapshotID, Mode: &mode}
}

// openCount inserts a count with its job, asked for by its owner.
func (s *Service) openCount(ctx context.Context, tx *database.Tx, m Measure, sec secret) error {
	return s.openCountAs(ctx, tx, m, sec, m.OwnerID)
}

// openCountAs is openCount for whoever asks.
func (s *Service) openCountAs(ctx context.Context, tx *database.Tx, m Measure, sec secret, asker string) error {
	if err := tx.Create(&m).Error; err != nil {
		return err
	}
	_, err := s.engine.Open(ctx, tx, engine.NewJob{Kind: KindCount, Subject: m.UUID.String(), Owner: m.OwnerID, Actor: asker,
		Owed: engine.Owes(tasks.CountLaunch), Secret: sec.seal()})
	return err
}

// supersede ends the counts of a request that QueryExecutor works on or is about to, unless a cohort is made of them.
func (s *Service) supersede(ctx context.Context, tx *database.Tx, requestID uuid.UUID) error {
	var running []uuid.UUID
	err := tx.Model(&Measure{}).Where("deleted IS NULL AND request_job_status IN ?", []string{statusStarted, statusPending}).
		Where("request_query_snapshot_id IN (SELECT uuid FROM cohort_requestquerysnapshot WHERE request_id = ?)", requestID).
		Where(`NOT EXISTS (SELECT 1 FROM cohort_cohortresult c
			WHERE c.dated_measure_id = cohort_datedmeasure.uuid OR c.dated_measure_global_id = cohort_datedmeasure.uuid)`).
		Pluck("uuid", &running).Error
	if err != nil {
		return fmt.Errorf("find counts to supersede: %w", err)
	}
	jobs, err := jobIDs(tx, KindCount, running)
	if err != nil || len(jobs) == 0 {
		return err
	}
	events := make([]engine.Event, len(jobs))
	for i, id := range jobs {
		events[i] = engine.Event{JobID: id, Name: evSuperseded, Actor: "count", Detail: "a newer count was asked for"}
	}
	_, err = s.engine.ApplyTx(ctx, tx, events...)
	return err
}
