package cohort

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// idRows are the ids of a batch as one parameter, however many.
var idRows = database.NewRecordset("ids", database.Column{Name: "id", Type: database.UUID})

// within is the condition that a column (ours, never a user's text) is one of the ids.
func within(g *gorm.DB, column string, ids []uuid.UUID) clause.Expression {
	rows := make([][]any, len(ids))
	for i, id := range ids {
		rows[i] = []any{id}
	}
	d := database.DialectOf(g)
	param, err := idRows.JSON(d, rows)
	if err != nil { // uuids always marshal
		_ = g.AddError(fmt.Errorf("ids for %s: %w", column, err))
	}
	return clause.Expr{SQL: column + " IN (SELECT ids.id FROM " + idRows.From(d) + ")", Vars: []any{param}}
}

// textRows are texts of a batch as one parameter.
var textRows = database.NewRecordset("texts", database.Column{Name: "value", Type: database.Text})

// among is the condition that a column is one of the texts, which users may send by the thousand.
func among(g *gorm.DB, column string, values []string) clause.Expression {
	rows := make([][]any, len(values))
	for i, v := range values {
		rows[i] = []any{v}
	}
	d := database.DialectOf(g)
	param, err := textRows.JSON(d, rows)
	if err != nil { // strings always marshal
		_ = g.AddError(fmt.Errorf("texts for %s: %w", column, err))
	}
	return clause.Expr{SQL: column + " IN (SELECT texts.value FROM " + textRows.From(d) + ")", Vars: []any{param}}
}

// Conditions on snapshots and cohorts that hold for all queries.
const (
	// visibleSnapshot hides the snapshots behind subset cohorts (cohort.md 3), those of deleted subsets too.
	visibleSnapshot = `NOT EXISTS (SELECT 1 FROM cohort_cohortresult sub
		WHERE sub.request_query_snapshot_id = cohort_requestquerysnapshot.uuid AND sub.is_subset)`
	// shownMeasure keeps the counts that belong to no cohort, or to one that is not a sample (cohort.md 6.1, 7.1).
	shownMeasure = `(NOT EXISTS (SELECT 1 FROM cohort_cohortresult smp
			WHERE smp.dated_measure_id = cohort_datedmeasure.uuid AND smp.parent_cohort_id IS NOT NULL)
		OR EXISTS (SELECT 1 FROM cohort_cohortresult ord
			WHERE ord.dated_measure_id = cohort_datedmeasure.uuid AND ord.parent_cohort_id IS NULL))`
)

// models are the class names that clients are shown (cohort.md 2.2), by table.
var models = map[string]string{
	"cohort_folder": "Folder", "cohort_request": "Request", "cohort_requestquerysnapshot": "RequestQuerySnapshot",
	"cohort_datedmeasure": "DatedMeasure", "cohort_cohortresult": "CohortResult", "cohort_fhirfilter": "FhirFilter",
	"cohort_feasibilitystudy": "FeasibilityStudy", "cohort_requestrefreshschedule": "RequestRefreshSchedule",
}

// tabler is a row of one of our tables.
type tabler interface{ TableName() string }

// live are the rows of T that are not deleted; those of snapshots and cohorts that are hidden from users are left out.
func live[T tabler](g *gorm.DB) *gorm.DB {
	var row T
	g = g.Model(&row).Where(row.TableName() + ".deleted IS NULL")
	switch row.TableName() {
	case "cohort_requestquerysnapshot":
		g = g.Where(visibleSnapshot)
	case "cohort_cohortresult":
		g = g.Where("NOT cohort_cohortresult.is_subset")
	case "cohort_fhirfilter":
		g = g.Where("NOT cohort_fhirfilter.auto_generated")
	}
	return g
}

// owned are the live rows of a user.
func owned[T tabler](g *gorm.DB, owner string) *gorm.DB {
	var row T
	return live[T](g).Where(row.TableName()+".owner_id = ?", owner)
}

// take reads the one row that a query selects; none is a fault.NotFound that names the model.
func take[T tabler](g *gorm.DB) (T, error) {
	var row T
	err := g.Take(&row).Error
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return row, fault.NotFound{Model: models[row.TableName()]}
	case err != nil:
		return row, fmt.Errorf("read %s: %w", row.TableName(), err)
	}
	return row, nil
}

// own reads the caller's row; another's does not exist.
func own[T tabler](g *gorm.DB, owner string, id uuid.UUID) (T, error) {
	var row T
	return take[T](owned[T](g, owner).Where(row.TableName()+".uuid = ?", id))
}

// refer checks a reference in a body: the row must be the caller's and live (cohort.md 2.5). It notes what is wrong, and
// returns the row when there is one.
func refer[T tabler](g *gorm.DB, f *web.Fields, name, owner string, ref web.Opt[uuid.UUID]) (*T, error) {
	if !ref.Set || ref.Null {
		return nil, nil
	}
	row, err := own[T](g, owner, ref.Value)
	if errors.As(err, &fault.NotFound{}) {
		f.Add(name, web.NoSuchRow(ref.Value))
		return nil, nil
	}
	return &row, err
}

// page counts the rows of a query and reads one page of them: two queries. Order must be set by the caller; rows that are
// equal in it are told apart by their keys.
func page[T tabler](q *gorm.DB, orders []clause.OrderByColumn, p web.Page) (rows []T, total int64, err error) {
	var row T
	table := row.TableName()
	q = q.Session(&gorm.Session{})
	if err := q.Count(&total).Error; err != nil {
		return nil, 0, fmt.Errorf("count %s: %w", table, err)
	}
	if p.Past(total) {
		return nil, total, nil
	}
	if len(orders) == 0 {
		orders = []clause.OrderByColumn{database.OrderBy(table+".created_at", false)}
	}
	for _, o := range append(orders, database.OrderBy(table+".uuid", false)) {
		q = q.Order(o)
	}
	if err := q.Limit(p.Limit).Offset(p.Offset).Find(&rows).Error; err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", table, err)
	}
	return rows, total, nil
}

// search narrows a query to rows in which every term occurs in one of the columns (cohort.md 2.8).
func search(q *gorm.DB, terms []string, columns ...any) *gorm.DB {
	for _, term := range terms {
		somewhere := make([]clause.Expression, len(columns))
		for i, c := range columns {
			somewhere[i] = database.Contains(c, term)
		}
		q = q.Where(clause.Or(somewhere...))
	}
	return q
}

// ordering translates public names into columns.
func ordering(orders []web.Order, columns map[string]string) []clause.OrderByColumn {
	var by []clause.OrderByColumn
	for _, o := range orders {
		by = append(by, database.OrderBy(columns[o.Name], o.Desc))
	}
	return by
}

func uuids[T any](rows []T, id func(T) uuid.UUID) []uuid.UUID {
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = id(r)
	}
	return ids
}
