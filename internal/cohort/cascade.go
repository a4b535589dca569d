package cohort

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// deleter deletes the row of a path, or several separated by commas (cohort.md 4.1, 4.2). param is the path's last id; of
// nested paths the row must belong to what the first one names.
func deleter[T tabler](a *api, param string) func(*gin.Context) error {
	return func(c *gin.Context) error {
		ids, several, err := pathIDs(c, param)
		if err != nil {
			return err
		}
		ctx, caller := c.Request.Context(), identity.CallerOf(c)
		err = a.deleting(ctx, func(tx *database.Tx) error {
			q := owned[T](tx.DB, caller.Username)
			if param == "nested" {
				parent, err := web.UUID(c, "uuid")
				if err != nil {
					return err
				}
				q = q.Where("cohort_request.parent_folder_id = ?", parent)
			}
			return deleteRows[T](ctx, a.Service, tx, q, ids, several)
		})
		if err != nil {
			return err
		}
		web.Empty(c, http.StatusNoContent)
		return nil
	}
}

// pathIDs reads one id, or a list of them, which must be well-formed as a whole.
func pathIDs(c *gin.Context, param string) (ids []uuid.UUID, several bool, err error) {
	text := c.Param(param)
	if !strings.Contains(text, ",") {
		id, err := web.UUID(c, param)
		return []uuid.UUID{id}, false, err
	}
	parts := strings.Split(text, ",")
	for _, part := range parts {
		id, err := web.ParseUUID(strings.TrimSpace(part))
		if err != nil {
			return nil, true, fault.Refused{Status: http.StatusBadRequest, Body: map[string]string{
				"error": "Invalid value for uuid param, uuids=['" + strings.Join(parts, "', '") + "']"}}
		}
		ids = append(ids, id)
	}
	return ids, true, nil
}

// deleting runs a deletion. It locks many jobs and rows, reports that come meanwhile a few of the same: of two that wait for
// each other one is broken off, and tried again.
func (s *Service) deleting(ctx context.Context, f func(tx *database.Tx) error) error {
	for try := 1; ; try++ {
		err := s.db.Update(ctx, f)
		if err == nil || try == 5 || !database.Deadlock(err) {
			return err
		}
	}
}

// deleteRows deletes those of the ids that the query selects, with all that depends on them. A single one must be there;
// of several, those that are not are passed over. Jobs are ended before rows are written: whoever reports locks in this order,
// too.
func deleteRows[T tabler](ctx context.Context, s *Service, tx *database.Tx, q *gorm.DB, ids []uuid.UUID, several bool) error {
	var row T
	table := row.TableName()
	var found []uuid.UUID
	if err := q.Where(within(tx.DB, table+".uuid", ids)).Order(table+".uuid").Pluck(table+".uuid", &found).Error; err != nil {
		return fmt.Errorf("find rows of %s to delete: %w", table, err)
	}
	d := deletion{tx: tx, at: s.clock.Now(), root: table, gone: map[string][]uuid.UUID{table: found}}
	deleted := int64(0)
	if len(found) > 0 {
		if err := d.collect(); err != nil {
			return err
		}
		if err := s.endJobs(ctx, tx, d.gone); err != nil {
			return err
		}
		var err error
		if deleted, err = d.mark(); err != nil {
			return err
		}
	}
	if deleted == 0 && !several { // there is none, or somebody was faster
		return fault.NotFound{Model: models[table]}
	}
	return nil
}

// endJobs ends the jobs of deleted rows silently (decision 23): they are stopped at QueryExecutor, and nobody is told.
func (s *Service) endJobs(ctx context.Context, tx *database.Tx, gone map[string][]uuid.UUID) error {
	var events []engine.Event
	for table, kind := range map[string]string{
		"cohort_datedmeasure": KindCount, "cohort_cohortresult": KindCreate, "cohort_feasibilitystudy": KindStudy} {
		ids, err := jobIDs(tx, kind, gone[table])
		if err != nil {
			return err
		}
		for _, id := range ids {
			events = append(events, engine.Event{JobID: id, Name: engine.Deleted, Actor: "deletion"})
		}
	}
	if len(events) == 0 {
		return nil
	}
	if _, err := s.engine.ApplyTx(ctx, tx, events...); err != nil {
		return fmt.Errorf("end the jobs of deleted rows: %w", err)
	}
	return nil
}

// deletion is one logical delete with its cascade (schema.md 4.3, 4.4): a constant number of statements, however many rows.
type deletion struct {
	tx   *database.Tx
	at   time.Time
	root string // the table of the rows that somebody asked to delete
	// gone are the rows reached, by table, those deleted before included.
	gone map[string][]uuid.UUID
}

// dependents say which rows follow a row of a table, by which column.
var dependents = []struct{ parent, child, column string }{
	{"cohort_folder", "cohort_request", "parent_folder_id"},
	{"cohort_request", "cohort_requestquerysnapshot", "request_id"},
	{"cohort_requestquerysnapshot", "cohort_datedmeasure", "request_query_snapshot_id"},
	{"cohort_requestquerysnapshot", "cohort_cohortresult", "request_query_snapshot_id"},
	{"cohort_requestquerysnapshot", "cohort_feasibilitystudy", "request_query_snapshot_id"},
	{"cohort_requestquerysnapshot", "cohort_requestrefreshschedule", "request_snapshot_id"},
	{"cohort_datedmeasure", "cohort_cohortresult", "dated_measure_id"},
	{"cohort_cohortresult", "export_table", "cohort_result_source_id"},
	{"cohort_cohortresult", "export_table", "cohort_result_subset_id"},
	{"cohort_fhirfilter", "export_table", "fhir_filter_id"},
}

// emptied are the references that are cleared when what they name is deleted.
var emptied = []struct{ parent, child, column string }{
	{"cohort_requestquerysnapshot", "cohort_requestquerysnapshot", "previous_snapshot_id"},
	{"cohort_datedmeasure", "cohort_cohortresult", "dated_measure_global_id"},
	{"cohort_cohortresult", "cohort_cohortresult", "parent_cohort_id"},
}

// collect finds all rows that follow; dependents are listed parents first.
func (d *deletion) collect() error {
	for _, dep := range dependents {
		parents := d.gone[dep.parent]
		if len(parents) == 0 {
			continue
		}
		var children []uuid.UUID
		if err := d.tx.Table(dep.child).Where(within(d.tx.DB, dep.column, parents)).Pluck("uuid", &children).Error; err != nil {
			return fmt.Errorf("find in %s what depends on %s: %w", dep.child, dep.parent, err)
		}
		d.gone[dep.child] = append(d.gone[dep.child], children...)
	}
	return nil
}

// mark deletes what is not deleted yet, and clears references. It returns how many of the rows that somebody asked for it
// deleted.
func (d *deletion) mark() (deleted int64, err error) {
	for table, ids := range d.gone {
		set := map[string]any{"deleted": d.at, "modified_at": d.at}
		if table != d.root {
			set["deleted_by_cascade"] = true
		}
		if len(ids) == 0 {
			continue
		}
		res := d.tx.Table(table).Where(within(d.tx.DB, "uuid", ids)).Where("deleted IS NULL").Updates(set)
		if res.Error != nil {
			return 0, fmt.Errorf("delete from %s: %w", table, res.Error)
		}
		if table == d.root {
			deleted = res.RowsAffected
		}
	}
	// On deleted rows too, and without touching the time of their last change.
	for _, ref := range emptied {
		if len(d.gone[ref.parent]) == 0 {
			continue
		}
		err := d.tx.Table(ref.child).Where(within(d.tx.DB, ref.column, d.gone[ref.parent])).Updates(map[string]any{ref.column: nil}).Error
		if err != nil {
			return 0, fmt.Errorf("clear %s of %s: %w", ref.column, ref.child, err)
		}
	}
	return deleted, nil
}
