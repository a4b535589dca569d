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
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
	"cohortflow/tasks"
)

// cohortBody documents what may be written.
type cohortBody struct {
	Name                 string     `json:"name"`
	Description          *string    `json:"description"`
	Favorite             bool       `json:"favorite"`
	RequestQuerySnapshot *uuid.UUID `json:"request_query_snapshot"`
	DatedMeasure         *uuid.UUID `json:"dated_measure"`
	ParentCohort         *uuid.UUID `json:"parent_cohort"`
	SamplingRatio        *float64   `json:"sampling_ratio"`
	GlobalEstimate       bool       `json:"global_estimate"`
}

// newCohort is a cohort to be made.
type newCohort struct {
	name        *string
	description *string
	favorite    bool
	snapshot    *Snapshot
	measure     *Measure
	parent      *Cohort // of a sample
	ratio       *float64
	estimate    bool
}

func (a *api) createCohort(c *gin.Context) error {
	f, err := fieldsOf(c, false, nil, "owner", "request_query_snapshot", "dated_measure", "parent_cohort")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	want, err := readCohort(a.db.Read(ctx), f, caller)
	if err != nil {
		return err
	}
	id, err := a.createOne(ctx, caller, want)
	if err != nil {
		return err
	}
	row, err := a.cohort(ctx, caller, id)
	if err != nil {
		return err
	}
	view := a.cohortView(row, nil)
	view.RequestJobStatus = statusNew // what was asked for; the row may be further already (cohort.md 9.2)
	web.JSON(c, http.StatusCreated, view)
	return nil
}

// readCohort validates the body of a creation, field by field in the order of the representation (cohort.md 9.2).
func readCohort(g *gorm.DB, f *web.Fields, caller identity.Caller) (want newCohort, err error) {
	want.name = f.String("name", web.MaxLen(255)).Ptr()
	checkOwner(f, caller)
	sample := f.HasKey("parent_cohort")
	if !sample {
		ref := f.Ref("request_query_snapshot", web.Required)
		if want.snapshot, err = refer[Snapshot](g, f, "request_query_snapshot", caller.Username, ref); err != nil {
			return want, err
		}
		ref = f.Ref("dated_measure", web.Required)
		if want.measure, err = refer[Measure](g, f, "dated_measure", caller.Username, ref); err != nil {
			return want, err
		}
	} else if err := readSample(g, f, caller, &want); err != nil {
		return want, err
	}
	want.description = f.String("description", web.Nullable, web.Blank).Ptr()
	want.favorite = f.Bool("favorite").Value
	want.estimate = truthy(f.Raw("global_estimate"))
	return want, f.Err()
}

// readSample validates what makes a sample: a cohort of the caller's that is none itself and has a list of patients, and the
// part to draw.
func readSample(g *gorm.DB, f *web.Fields, caller identity.Caller, want *newCohort) (err error) {
	ref := f.Ref("parent_cohort")
	want.parent, err = refer[Cohort](g.Where("cohort_cohortresult.parent_cohort_id IS NULL"), f, "parent_cohort", caller.Username, ref)
	if err != nil {
		return err
	}
	if want.parent != nil && (want.parent.GroupID == "" || want.parent.RequestQuerySnapshotID == nil) {
		f.Add("parent_cohort", "A sample can only be drawn from a cohort that is finished.")
	}
	ratio := f.Float("sampling_ratio", web.Required)
	if ratio.Set && !(ratio.Value > 0 && ratio.Value < 1) {
		f.Add("sampling_ratio", "Sampling ratio must be between 0 and 1")
	}
	want.ratio = ratio.Ptr()
	return nil
}

// truthy is what the old system took for true: anything but nothing, zero and false.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return web.Display(v) != "0"
}

// createOne makes a cohort with its job, its measure if it is a sample, and the count over the whole institution if that is
// wanted: one transaction.
func (s *Service) createOne(ctx context.Context, caller identity.Caller, want newCohort) (uuid.UUID, error) {
	row := Cohort{Base: s.base(), OwnerID: caller.Username, Name: want.name, Description: want.description, Favorite: want.favorite,
		SamplingRatio: want.ratio}
	sec := secretOf(caller)
	err := s.db.Update(ctx, func(tx *database.Tx) error {
		size, err := s.origin(tx, want, &row, &sec)
		if err != nil {
			return err
		}
		if want.estimate {
			m := s.newMeasure(caller.Username, *row.RequestQuerySnapshotID, modeGlobal)
			if err := s.openCount(ctx, tx, m, secretOf(caller)); err != nil {
				return err
			}
			row.DatedMeasureGlobalID = &m.UUID
		}
		return s.openCreation(ctx, tx, row, size, sec)
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("create cohort: %w", err)
	}
	return row.UUID, nil
}

// origin fills in what the cohort is made of, and estimates its size.
func (s *Service) origin(tx *database.Tx, want newCohort, row *Cohort, sec *secret) (size float64, err error) {
	if want.parent == nil {
		row.RequestQuerySnapshotID, row.DatedMeasureID = &want.snapshot.UUID, &want.measure.UUID
		if want.measure.Measure != nil {
			size = float64(*want.measure.Measure)
		}
		return size, nil
	}
	row.ParentCohortID, row.RequestQuerySnapshotID, sec.Group = &want.parent.UUID, want.parent.RequestQuerySnapshotID, want.parent.GroupID
	m := s.newMeasure(want.parent.OwnerID, *row.RequestQuerySnapshotID, modeSnapshot) // its size comes with the report
	row.DatedMeasureID = &m.UUID
	if err := tx.Create(&m).Error; err != nil {
		return 0, err
	}
	if want.parent.DatedMeasureID != nil {
		var of Measure
		if err := tx.Where("uuid = ?", *want.parent.DatedMeasureID).Limit(1).Find(&of).Error; err != nil {
			return 0, err
		}
		if of.Measure != nil {
			size = float64(*of.Measure) * *want.ratio
		}
	}
	return size, nil
}

// openCreation inserts a cohort with its job. Large ones wait under another status, since the indexer has to end them.
func (s *Service) openCreation(ctx context.Context, tx *database.Tx, row Cohort, size float64, sec secret) error {
	row.JobStatus = statusPending
	if size >= float64(s.cfg.SizeLimit) {
		row.JobStatus = statusLongPending
	}
	if err := tx.Create(&row).Error; err != nil {
		return err
	}
	_, err := s.engine.Open(ctx, tx, engine.NewJob{Kind: KindCreate, Subject: row.UUID.String(), Owner: row.OwnerID,
		Owed: engine.Owes(tasks.CohortLaunch), Secret: sec.seal()})
	return err
}

// Subset describes a technical cohort for one table of an export (cohort.md 22.1): the resources of a filter, of the patients
// of a cohort.
type Subset struct {
	Owner  string    // of the export, and so of the subset
	Table  string    // the export's table: it names the subset
	Source uuid.UUID // the cohort that is exported
	Filter uuid.UUID // the saved or automatic filter
	// Authorization and Method are the headers of the request that asks for the export.
	Authorization, Method string
}

// CreateSubset makes a subset in the caller's transaction and returns its id. When its job (KindCreate, the subset's id as
// subject) ends, subscribers of the engine are called. The caller has checked the right to export the source.
// fault.NotFound: no such cohort or filter; fault.Conflict: the cohort cannot be the source of an export.
func (s *Service) CreateSubset(ctx context.Context, tx *database.Tx, want Subset) (uuid.UUID, error) {
	source, err := take[Cohort](live[Cohort](tx.DB).Where("cohort_cohortresult.uuid = ?", want.Source))
	if err != nil {
		return uuid.Nil, err
	}
	filter, err := take[FhirFilter](tx.Where("uuid = ? AND deleted IS NULL", want.Filter))
	if err != nil {
		return uuid.Nil, err
	}
	if source.RequestQuerySnapshotID == nil || source.DatedMeasureID == nil || source.GroupID == "" {
		return uuid.Nil, fault.Conflict{Detail: "The cohort has no query, no size or no list of patients yet: it cannot be exported."}
	}
	of, err := take[Snapshot](tx.Where("uuid = ?", *source.RequestQuerySnapshotID))
	if err != nil {
		return uuid.Nil, err
	}
	size, err := take[Measure](tx.Where("uuid = ?", *source.DatedMeasureID))
	if err != nil {
		return uuid.Nil, err
	}
	snap := Snapshot{Base: s.base(), OwnerID: of.OwnerID, RequestID: of.RequestID, PerimetersIDs: of.PerimetersIDs, Version: 1,
		SerializedQuery: queryexec.SubsetQuery(filter.FhirResource, source.GroupID, filter.Filter)}
	m := Measure{Base: s.base(), Work: Work{JobStatus: size.JobStatus, JobDuration: size.JobDuration}, OwnerID: size.OwnerID,
		RequestQuerySnapshotID: snap.UUID, Measure: size.Measure, Mode: size.Mode}
	name := want.Table + "_" + source.GroupID
	row := Cohort{Base: s.base(), OwnerID: want.Owner, Name: &name, RequestQuerySnapshotID: &snap.UUID, DatedMeasureID: &m.UUID, IsSubset: true}
	if err := tx.Create(&snap).Error; err != nil {
		return uuid.Nil, fmt.Errorf("create the snapshot of a subset: %w", err)
	}
	if err := tx.Create(&m).Error; err != nil {
		return uuid.Nil, fmt.Errorf("create the measure of a subset: %w", err)
	}
	expected := 0.0
	if size.Measure != nil {
		expected = float64(*size.Measure)
	}
	err = s.openCreation(ctx, tx, row, expected, secret{Authorization: want.Authorization, Method: want.Method})
	if err != nil {
		return uuid.Nil, fmt.Errorf("create a subset: %w", err)
	}
	return row.UUID, nil
}
