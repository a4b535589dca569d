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
		err = a.db.Update(ctx, func(tx *database.Tx) error {
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

// deleteRows deletes those of the ids that the query selects, with all that depends on them. A single one must be there;
// of several, those that are not are passed over.
func deleteRows[T tabler](ctx context.Context, s *Service, tx *database.Tx, q *gorm.DB, ids []uuid.UUID, several bool) error {
	var row T
	table := row.TableName()
	var found []uuid.UUID
	err := database.ForUpdate(q).Where(within(tx.DB, table+".uuid", ids)).Order(table+".uuid").Pluck(table+".uuid", &found).Error
	if err != nil {
		return fmt.Errorf("find rows of %s to delete: %w", table, err)
	}
	if len(found) == 0 {
		if several {
			return nil
		}
		return fault.NotFound{Model: models[table]}
	}
	d := deletion{tx: tx, at: s.clock.Now(), gone: map[string][]uuid.UUID{}}
	if err := d.root(table, found); err != nil {
		return err
	}
	if err := d.nullify(); err != nil {
		return err
	}
	return s.endJobs(ctx, tx, d.gone)
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
	tx *database.Tx
	at time.Time
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

// root deletes the rows that somebody asked to delete, then all that depends on them; dependents are listed parents first.
func (d *deletion) root(table string, ids []uuid.UUID) error {
	d.gone[table] = ids
	err := d.tx.Table(table).Where(within(d.tx.DB, "uuid", ids)).
		Updates(map[string]any{"deleted": d.at, "modified_at": d.at}).Error
	if err != nil {
		return fmt.Errorf("delete from %s: %w", table, err)
	}
	for _, dep := range dependents {
		parents := d.gone[dep.parent]
		if len(parents) == 0 {
			continue
		}
		var children []uuid.UUID
		err := d.tx.Table(dep.child).Where(within(d.tx.DB, dep.column, parents)).Pluck("uuid", &children).Error
		if err == nil && len(children) > 0 {
			err = d.tx.Table(dep.child).Where(within(d.tx.DB, "uuid", children)).Where("deleted IS NULL").
				Updates(map[string]any{"deleted": d.at, "deleted_by_cascade": true, "modified_at": d.at}).Error
		}
		if err != nil {
			return fmt.Errorf("delete from %s what depends on %s: %w", dep.child, dep.parent, err)
		}
		d.gone[dep.child] = append(d.gone[dep.child], children...)
	}
	return nil
}

// nullify clears references, on deleted rows too, without touching the time of their last change.
func (d *deletion) nullify() error {
	for _, ref := range emptied {
		if len(d.gone[ref.parent]) == 0 {
			continue
		}
		err := d.tx.Table(ref.child).Where(within(d.tx.DB, ref.column, d.gone[ref.parent])).Updates(map[string]any{ref.column: nil}).Error
		if err != nil {
			return fmt.Errorf("clear %s of %s: %w", ref.column, ref.child, err)
		}
	}
	return nil
}
