package access

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
)

// Detail is an access with all that is shown of it.
type Detail struct {
	accessRow
	Role      *Role
	Perimeter *Perimeter
	// Valid is ValidAt the moment of the question.
	Valid bool
	// Editable tells whether who asks may manage the access; nil when nobody wanted to know.
	Editable *bool
}

// rights are those of the access's role, nil without one.
func (d *Detail) rights() *Rights {
	if d.Role == nil || d.Role.DeleteDatetime != nil {
		return nil
	}
	return new(d.Role.Rights())
}

// accessRow is an access joined with its profile, and the people it names.
type accessRow struct {
	Access        `gorm:"embedded"`
	ProfileSource *string
	UserID        *string
	Holder        person `gorm:"-"`
	Creator       person `gorm:"-"`
	Updater       person `gorm:"-"`
}

// columnsOf names a joined user's columns as person's fields.
func columnsOf(alias, prefix string) string {
	return fmt.Sprintf("%[1]s.username AS %[2]s_username, %[1]s.email AS %[2]s_email, %[1]s.firstname AS %[2]s_firstname, "+
		"%[1]s.lastname AS %[2]s_lastname, %[1]s.delete_datetime AS %[2]s_deleted", alias, prefix)
}

// accesses begins a query of live accesses, joined with all that filters, searches and orders name.
func accesses(g *gorm.DB) *gorm.DB {
	return g.Table("accesses_access a").
		Joins("LEFT JOIN accesses_profile p ON p.id = a.profile_id").
		Joins(`LEFT JOIN "user" u ON u.username = p.user_id`).
		Joins("LEFT JOIN accesses_role r ON r.id = a.role_id").
		Joins("LEFT JOIN accesses_perimeter pe ON pe.id = a.perimeter_id").
		Where("a.delete_datetime IS NULL")
}

// details reads the rows of a query of accesses: three queries, whatever their number. People are read by their names and not
// joined, three times the same table: of few accesses and many users the database made a walk through all of them.
func details(g, query *gorm.DB, t *Tree, now time.Time) ([]Detail, error) {
	var rows []accessRow
	if err := query.Select("a.*, p.source AS profile_source, p.user_id, "+validRank, now, now).Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("read accesses: %w", err)
	}
	var ids []int64
	var names []string
	for _, row := range rows {
		if row.RoleID != nil {
			ids = append(ids, *row.RoleID)
		}
		for _, name := range []*string{row.UserID, row.CreatedBy, row.UpdatedBy} {
			if name != nil {
				names = append(names, *name)
			}
		}
	}
	roles, err := rolesByID(g, ids)
	if err != nil {
		return nil, err
	}
	people, err := peopleByName(g, names)
	if err != nil {
		return nil, err
	}
	list := make([]Detail, len(rows))
	for i, row := range rows {
		row.Holder, row.Creator, row.Updater = people[deref(row.UserID)], people[deref(row.CreatedBy)], people[deref(row.UpdatedBy)]
		list[i] = Detail{accessRow: row, Valid: row.ValidAt(now)}
		if row.RoleID != nil {
			if role, found := roles[*row.RoleID]; found {
				list[i].Role = &role
			}
		}
		if row.PerimeterID != nil {
			list[i].Perimeter = t.Get(*row.PerimeterID)
		}
	}
	return list, nil
}

// AccessFilter restricts and orders a list of accesses (accesses.md 12.2); zero fields restrict nothing.
type AccessFilter struct {
	ProfileID, RoleID, PerimeterID *int64
	Source                         string
	Start, End                     *time.Time
	IncludeParents                 bool
	IncludeChildren                bool
	Search                         []string
	Order                          []web.Order
}

// annotated tells whether the list says which accesses the caller may manage.
func (f AccessFilter) annotated() bool { return f.ProfileID != nil || f.PerimeterID != nil }

func (f AccessFilter) apply(q *gorm.DB) *gorm.DB {
	if f.ProfileID != nil {
		q = q.Where("a.profile_id = ?", *f.ProfileID)
	}
	if f.RoleID != nil {
		q = q.Where("a.role_id = ?", *f.RoleID)
	}
	if f.Source != "" {
		q = q.Where("a.source = ?", f.Source)
	}
	if f.Start != nil {
		q = q.Where("a.start_datetime = ?", *f.Start)
	}
	if f.End != nil {
		q = q.Where("a.end_datetime = ?", *f.End)
	}
	return search(q, f.Search, "u.firstname", "u.lastname", "u.email", "u.username", "r.name", "pe.name")
}

// search asks that each term occurs in one of the columns.
func search(q *gorm.DB, terms []string, columns ...string) *gorm.DB {
	for _, term := range terms {
		either := make([]clause.Expression, len(columns))
		for i, column := range columns {
			either[i] = database.Contains(column, term)
		}
		q = q.Where(clause.And(clause.Or(either...)))
	}
	return q
}

// effectiveOn restricts a query to the accesses in force on a perimeter and, if wanted, to those above it that have effect
// on it, and those below it (accesses.md 12.3).
func (f AccessFilter) effectiveOn(q *gorm.DB, t *Tree, now time.Time) *gorm.DB {
	q = q.Where("p.is_active AND p.delete_datetime IS NULL AND a.start_datetime <= ? AND a.end_datetime >= ?", now, now)
	places := []int64{*f.PerimeterID}
	if f.IncludeChildren {
		places = append(places, t.Below(*f.PerimeterID)...)
	}
	if f.IncludeParents {
		var above []int64
		for p := range t.Above(*f.PerimeterID) {
			above = append(above, p.ID)
		}
		places = append(places, above...)
		q = q.Where(clause.And(clause.Or(clause.Not(database.OneOf("a.perimeter_id", above)), clause.Expr{SQL: anyFlag("r", inheritedRights)})))
	}
	if len(places) == t.Len() {
		return q.Where("a.perimeter_id IS NOT NULL")
	}
	return q.Where(database.OneOf("a.perimeter_id", places))
}

// anyFlag is the condition that a role's row has one of the rights.
func anyFlag(alias string, rights Rights) string {
	var either []string
	for i, name := range rightNames {
		if rights.Has(1 << i) {
			either = append(either, alias+"."+name)
		}
	}
	return strings.Join(either, " OR ")
}

// orderable maps the names of accesses.md 12.2 to columns.
var orderable = map[string]string{
	"start_datetime": "a.start_datetime", "end_datetime": "a.end_datetime", "created_by": "a.created_by",
	"updated_by": "a.updated_by", "role_name": "r.name", "perimeter_name": "pe.name",
	"is_valid": "valid_rank",
}

// validRank is a column by which valid accesses come after the others.
const validRank = "CASE WHEN a.start_datetime <= ? AND a.end_datetime > ? THEN 1 ELSE 0 END AS valid_rank"

func (f AccessFilter) order(q *gorm.DB) *gorm.DB {
	for _, o := range f.Order {
		q = q.Order(database.OrderBy(orderable[o.Name], o.Desc))
	}
	return q.Order("a.id")
}

// perimetersOfCohorts are the cohort ids of the perimeters of users' cohorts, which are given by their groups (accesses.md
// 6.8): from the snapshot's list, or where it has none, from its query (decision 7).
func (s *store) perimetersOfCohorts(ctx context.Context, groupIDs []string) (ids []string, err error) {
	if len(groupIDs) == 0 {
		return nil, nil
	}
	var rows []struct {
		PerimetersIDs   database.StringArray `gorm:"column:perimeters_ids"`
		SerializedQuery string
	}
	err = s.db.Read(ctx).Table("cohort_cohortresult c").
		Joins("JOIN cohort_requestquerysnapshot s ON s.uuid = c.request_query_snapshot_id").
		Where("c.deleted IS NULL AND c.group_id IN ?", groupIDs).
		Select("s.perimeters_ids, s.serialized_query").Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the perimeters of cohorts: %w", err)
	}
	for _, row := range rows {
		if len(row.PerimetersIDs) > 0 {
			ids = append(ids, row.PerimetersIDs...)
		} else {
			ids = append(ids, queryexec.Population(row.SerializedQuery)...)
		}
	}
	return ids, nil
}
