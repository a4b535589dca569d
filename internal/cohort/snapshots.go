package cohort

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// snapshotView is a snapshot as clients see it (cohort.md 7.1).
type snapshotView struct {
	UUID             uuid.UUID     `json:"uuid"`
	Owner            string        `json:"owner"`
	Name             *string       `json:"name"`
	Version          int           `json:"version"`
	CreatedAt        web.Datetime  `json:"created_at"`
	ModifiedAt       web.Datetime  `json:"modified_at"`
	Request          uuid.UUID     `json:"request"`
	PreviousSnapshot *uuid.UUID    `json:"previous_snapshot"`
	SerializedQuery  string        `json:"serialized_query"`
	PerimetersIDs    []string      `json:"perimeters_ids"`
	DatedMeasures    []measureView `json:"dated_measures"`
	CohortResults    []cohortView  `json:"cohort_results"`
}

// snapshotBody documents what may be written.
type snapshotBody struct {
	Name             *string    `json:"name"`
	Request          *uuid.UUID `json:"request"`
	PreviousSnapshot *uuid.UUID `json:"previous_snapshot"`
	SerializedQuery  string     `json:"serialized_query"`
}

// snapshotPath narrows a query to what a nested path names, and reads the snapshot's own id from it ("" for lists).
func snapshotPath(c *gin.Context, q *gorm.DB) (*gorm.DB, string, error) {
	column := ""
	switch {
	case strings.Contains(c.FullPath(), "/query-snapshots/"):
		column = "cohort_requestquerysnapshot.request_id"
	case strings.Contains(c.FullPath(), "/next-snapshots/"):
		column = "cohort_requestquerysnapshot.previous_snapshot_id"
	default:
		return q, "uuid", nil
	}
	parent, err := web.UUID(c, "uuid")
	if err != nil {
		return nil, "", err
	}
	return q.Where(column+" = ?", parent), "nested", nil
}

func (a *api) listSnapshots(c *gin.Context) error {
	q := web.QueryOf(c)
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	requestID, previous, folderID := q.UUID("request"), q.UUID("previous_snapshot"), q.UUID("request__parent_folder")
	name, sharedBy := q.Text("name"), q.Text("shared_by")
	g := a.db.Read(ctx)
	for _, err := range []error{exists[Request](g, q, "request", requestID), userExists(g, q, "shared_by", sharedBy),
		exists[Snapshot](g, q, "previous_snapshot", previous), exists[Folder](g, q, "request__parent_folder", folderID)} {
		if err != nil {
			return err
		}
	}
	if err := q.Err(); err != nil {
		return err
	}
	db, _, err := snapshotPath(c, owned[Snapshot](g, caller.Username))
	if err != nil {
		return err
	}
	if requestID != nil {
		db = db.Where("cohort_requestquerysnapshot.request_id = ?", *requestID)
	}
	if previous != nil {
		db = db.Where("cohort_requestquerysnapshot.previous_snapshot_id = ?", *previous)
	}
	if folderID != nil {
		db = db.Where(`cohort_requestquerysnapshot.request_id IN (SELECT r.uuid FROM cohort_request r
			WHERE r.parent_folder_id = ? AND r.deleted IS NULL)`, *folderID)
	}
	if name != "" {
		db = db.Where("cohort_requestquerysnapshot.name = ?", name)
	}
	if sharedBy != "" {
		db = db.Where("cohort_requestquerysnapshot.shared_by_id = ?", sharedBy)
	}
	p := web.OffsetPage(c)
	rows, total, err := page[Snapshot](db, nil, p)
	if err != nil {
		return err
	}
	views, err := a.snapshotViews(ctx, rows)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, p, total, views))
	return nil
}

// snapshotViews completes snapshots with their counts and cohorts: a constant number of queries.
func (s *Service) snapshotViews(ctx context.Context, rows []Snapshot) ([]snapshotView, error) {
	ids := uuids(rows, func(r Snapshot) uuid.UUID { return r.UUID })
	measures, err := s.measuresOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	cohorts, err := s.cohortsOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	views := make([]snapshotView, len(rows))
	for i, r := range rows {
		views[i] = snapshotView{UUID: r.UUID, Owner: r.OwnerID, Name: r.Name, Version: r.Version,
			CreatedAt: web.Datetime(r.CreatedAt), ModifiedAt: web.Datetime(r.ModifiedAt), Request: r.RequestID,
			PreviousSnapshot: r.PreviousSnapshotID, SerializedQuery: r.SerializedQuery, PerimetersIDs: r.PerimetersIDs,
			DatedMeasures: orEmpty(measures[r.UUID]), CohortResults: orEmpty(cohorts[r.UUID])}
	}
	return views, nil
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ownSnapshot finds the caller's snapshot of a path.
func (s *Service) ownSnapshot(c *gin.Context) (Snapshot, error) {
	q, param, err := snapshotPath(c, s.db.Read(c.Request.Context()))
	if err != nil {
		return Snapshot{}, err
	}
	id, err := web.UUID(c, param)
	if err != nil {
		return Snapshot{}, err
	}
	return own[Snapshot](q, identity.CallerOf(c).Username, id)
}

func (a *api) getSnapshot(c *gin.Context) error {
	row, err := a.ownSnapshot(c)
	if err != nil {
		return err
	}
	return a.showSnapshot(c, http.StatusOK, row)
}

func (a *api) showSnapshot(c *gin.Context, status int, row Snapshot) error {
	views, err := a.snapshotViews(c.Request.Context(), []Snapshot{row})
	if err != nil {
		return err
	}
	web.JSON(c, status, views[0])
	return nil
}

func (a *api) createSnapshot(c *gin.Context) error {
	forced := web.Object{}
	if c.Param("uuid") != "" {
		parent, err := web.UUID(c, "uuid")
		if err != nil {
			return err
		}
		if strings.Contains(c.FullPath(), "/next-snapshots/") {
			forced["previous_snapshot"] = parent.String()
		} else {
			forced["request"] = parent.String()
		}
	}
	f, err := fieldsOf(c, false, forced, "owner", "request", "previous_snapshot")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	row := Snapshot{Base: a.base(), OwnerID: caller.Username}
	err = a.db.Update(ctx, func(tx *database.Tx) error {
		if err := a.place(tx.DB, f, caller, &row); err != nil {
			return err
		}
		return tx.Create(&row).Error
	})
	if err != nil {
		return err
	}
	return a.showSnapshot(c, http.StatusCreated, row)
}

// place finds out where a new snapshot belongs, in the order of checks of cohort.md 7.2, and fills the row.
func (s *Service) place(g *gorm.DB, f *web.Fields, caller identity.Caller, row *Snapshot) error {
	previousRef, requestRef := given(f, "previous_snapshot"), given(f, "request")
	if !previousRef && !requestRef {
		return fault.Text("Neither `previous_snapshot` nor `request` were provided")
	}
	var previous *Snapshot
	var parent *Request
	var err error
	if previousRef {
		if previous, err = refer[Snapshot](g, f, "previous_snapshot", caller.Username, f.Ref("previous_snapshot")); err != nil {
			return err
		}
	}
	if requestRef {
		if parent, err = refer[Request](g, f, "request", caller.Username, f.Ref("request")); err != nil {
			return err
		}
	}
	if previous != nil && parent != nil && previous.RequestID != parent.UUID {
		return fault.Text("The provided request is different from the previous_snapshot's request")
	}
	switch {
	case previous != nil:
		row.PreviousSnapshotID, row.RequestID = &previous.UUID, previous.RequestID
	case parent != nil:
		row.RequestID = parent.UUID
	}
	siblings, err := versions(g, row.RequestID)
	if err != nil {
		return err
	}
	if siblings > 0 && !previousRef {
		return fault.Text("Must provide a `previous_snapshot` if the request already has snapshots")
	}
	row.Version = int(siblings) + 1
	text, isText := f.Raw("serialized_query").(string)
	if !isText {
		return fault.Text("serialized_query is required")
	}
	if row.PerimetersIDs, err = perimetersOf(text); err != nil {
		return fault.Text("Error extracting perimeters ids from JSON query - " + err.Error())
	}
	row.SerializedQuery = f.String("serialized_query").Value
	row.Name = f.String("name", web.Nullable, web.Blank).Ptr()
	checkOwner(f, caller)
	return f.Err()
}

// versions counts the snapshots of a request. The request stays locked, so that of two new ones at once each gets a number of its
// own.
func versions(g *gorm.DB, requestID uuid.UUID) (n int64, err error) {
	var locked []Request
	if err := database.ForUpdate(g).Select("uuid").Where("uuid = ?", requestID).Find(&locked).Error; err != nil {
		return 0, fmt.Errorf("lock request %s: %w", requestID, err)
	}
	if err := live[Snapshot](g).Where("cohort_requestquerysnapshot.request_id = ?", requestID).Count(&n).Error; err != nil {
		return 0, fmt.Errorf("count versions of request %s: %w", requestID, err)
	}
	return n, nil
}

// given tells whether a body names a reference; null and "" mean none.
func given(f *web.Fields, name string) bool {
	v := f.Raw(name)
	return v != nil && v != ""
}

// perimetersOf reads the population of a query (cohort.md 7.2): a list of texts of digits, the virtual cohorts of perimeters.
func perimetersOf(query string) (database.StringArray, error) {
	v, err := web.DecodeJSON([]byte(query))
	if err != nil {
		return nil, errors.New("it is not JSON")
	}
	document, _ := v.(map[string]any)
	population, _ := document["sourcePopulation"].(map[string]any)
	list, ok := population["caresiteCohortList"].([]any)
	if !ok {
		return nil, errors.New("there is no list sourcePopulation.caresiteCohortList")
	}
	ids := database.StringArray{}
	for _, item := range list {
		id, isText := item.(string)
		if !isText || id == "" || len(id) > 15 || strings.Trim(id, "0123456789") != "" {
			return nil, fmt.Errorf("%s is not the id of a perimeter", web.Display(item))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (a *api) changeSnapshot(c *gin.Context) error {
	row, err := a.ownSnapshot(c)
	if err != nil {
		return err
	}
	f, err := fieldsOf(c, true, nil, "owner", "request", "previous_snapshot")
	if err != nil {
		return err
	}
	ctx, caller, set := c.Request.Context(), identity.CallerOf(c), map[string]any{}
	checkOwner(f, caller)
	if name := f.String("name", web.Nullable, web.Blank); name.Set {
		set["name"] = name.Ptr()
	}
	g := a.db.Read(ctx)
	parent, err := refer[Request](g, f, "request", caller.Username, f.Ref("request"))
	if err != nil {
		return err
	}
	previous, err := refer[Snapshot](g, f, "previous_snapshot", caller.Username, f.Ref("previous_snapshot"))
	if err != nil {
		return err
	}
	query := f.String("serialized_query")
	if query.Set {
		if set["perimeters_ids"], err = perimetersOf(query.Value); err != nil {
			f.Add("serialized_query", "Error extracting perimeters ids from JSON query - "+err.Error())
		}
		set["serialized_query"] = query.Value
	}
	if err := f.Err(); err != nil {
		return err
	}
	if parent != nil {
		set["request_id"] = parent.UUID
	}
	if previous != nil {
		set["previous_snapshot_id"] = previous.UUID
	}
	err = a.db.Update(ctx, func(tx *database.Tx) error {
		if query.Set {
			changed, err := a.keepHistory(tx.DB, row.UUID, query.Value)
			if err != nil {
				return err
			}
			if changed {
				set["translated_query"] = nil // a schedule must not count what the query was
			}
		}
		if err := change[Snapshot](tx.DB, caller.Username, row.UUID, a.stamped(set)); err != nil {
			return err
		}
		row, err = own[Snapshot](tx.DB, caller.Username, row.UUID)
		return err
	})
	if err != nil {
		return err
	}
	return a.showSnapshot(c, http.StatusOK, row)
}

// keepHistory writes the text of a query down before it is replaced by another one (cohort.md 24). The row stays locked
// until the transaction ends.
func (s *Service) keepHistory(g *gorm.DB, id uuid.UUID, text string) (changed bool, err error) {
	var old string
	err = database.ForUpdate(g).Model(&Snapshot{}).Where("uuid = ?", id).Select("serialized_query").Take(&old).Error
	if err != nil {
		return false, fmt.Errorf("lock snapshot %s: %w", id, err)
	}
	if old == text {
		return false, nil
	}
	var last int
	err = g.Model(&SnapshotPatch{}).Where("snapshot_id = ?", id).Select("COALESCE(MAX(patch_version), 0)").Scan(&last).Error
	if err == nil {
		err = g.Create(&SnapshotPatch{SnapshotID: id, UUID: id.String(), SerializedQuery: old, PatchVersion: last + 1,
			CreatedAt: s.clock.Now()}).Error
	}
	if err != nil {
		return false, fmt.Errorf("keep history of snapshot %s: %w", id, err)
	}
	return true, nil
}
