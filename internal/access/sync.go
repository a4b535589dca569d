package access

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
)

// SyncReport says what a synchronisation of the perimeters did.
type SyncReport struct {
	Created, Updated, Removed int
	ClosedAccesses            int64
	// Differences tell each perimeter that is added (+), changed (~) or removed (-).
	Differences []string
	// Warnings are sentences about what was odd in the source.
	Warnings []string
}

func (r *SyncReport) differs(sign string, p Perimeter) {
	r.Differences = append(r.Differences, fmt.Sprintf("%s %d %s", sign, p.ID, deref(p.Name)))
}

// String tells an operator what was done, or would be.
func (r SyncReport) String() string {
	lines := append(slices.Clone(r.Differences), fmt.Sprintf("%d added, %d changed, %d removed, %d accesses ended", r.Created, r.Updated, r.Removed, r.ClosedAccesses))
	for _, w := range r.Warnings {
		lines = append(lines, "Warning: "+w)
	}
	return strings.Join(lines, "\n")
}

// reconcile makes the perimeters those of a source, within a transaction (accesses.md 18.4, 19): it inserts, updates what
// differs (reviving what was deleted), soft-deletes what the source does not name, and ends the accesses on that. The rows'
// virtual cohorts are the source's only withCohorts. It returns the rows as they are now, and as they were.
func (s *Service) reconcile(tx *database.Tx, wanted []Perimeter, withCohorts bool, report *SyncReport) (now, before map[int64]Perimeter, err error) {
	if err := touchTree(tx); err != nil { // first: it holds back callbacks and other synchronisations until the commit
		return nil, nil, err
	}
	var existing []Perimeter
	if err := tx.Find(&existing).Error; err != nil {
		return nil, nil, fmt.Errorf("read perimeters: %w", err)
	}
	before, now = make(map[int64]Perimeter, len(existing)), make(map[int64]Perimeter, len(wanted))
	for _, p := range existing {
		before[p.ID] = p
	}
	moment := s.clock.Now()
	var writes []Perimeter
	for _, p := range wanted {
		old, known := before[p.ID]
		next, differs := renewed(old, p, withCohorts)
		switch {
		case !known:
			next = p
			next.Stamps = stampsAt(moment)
			next.CountAllowedUsers, next.CountAllowedUsersAboveLevels, next.CountAllowedUsersInferiorLevels = new(0), new(0), new(0)
			report.Created++
			report.differs("+", next)
			writes = append(writes, next)
		case differs:
			next.UpdateDatetime = &moment
			report.Updated++
			report.differs("~", next)
			writes = append(writes, next)
		}
		now[p.ID] = next
	}
	if err := writePerimeters(tx, writes); err != nil {
		return nil, nil, err
	}
	return now, before, s.removeOthers(tx, now, existing, moment, report)
}

// renewed is a known perimeter with what the source says of it, and whether that changes anything.
func renewed(old, p Perimeter, withCohorts bool) (next Perimeter, differs bool) {
	next = old
	next.DeleteDatetime = nil
	next.Name, next.ShortName, next.SourceValue, next.TypeSourceValue = p.Name, p.ShortName, p.SourceValue, p.TypeSourceValue
	next.ParentID, next.Level, next.FullPath = p.ParentID, p.Level, p.FullPath
	next.AboveLevelsIDs, next.InferiorLevelsIDs = p.AboveLevelsIDs, p.InferiorLevelsIDs
	if withCohorts {
		next.CohortID, next.CohortSize = p.CohortID, p.CohortSize
	}
	equal := old.DeleteDatetime == nil && equalPtr(old.ParentID, next.ParentID) && equalPtr(old.Level, next.Level)
	for _, pair := range [][2]*string{
		{old.Name, next.Name}, {old.ShortName, next.ShortName}, {old.SourceValue, next.SourceValue},
		{old.TypeSourceValue, next.TypeSourceValue}, {old.FullPath, next.FullPath}, {old.AboveLevelsIDs, next.AboveLevelsIDs},
		{old.InferiorLevelsIDs, next.InferiorLevelsIDs}, {old.CohortID, next.CohortID}, {old.CohortSize, next.CohortSize},
	} {
		equal = equal && equalPtr(pair[0], pair[1])
	}
	return next, !equal
}

func equalPtr[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// writePerimeters inserts rows or overwrites those of the same id, as they are.
func writePerimeters(tx *database.Tx, rows []Perimeter) error {
	if len(rows) == 0 {
		return nil
	}
	overwrite := clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, UpdateAll: true}
	if err := tx.Clauses(overwrite).CreateInBatches(rows, 500).Error; err != nil {
		return fmt.Errorf("write perimeters: %w", err)
	}
	return nil
}

// removeOthers soft-deletes the perimeters that are not kept, keeping the first moment of those that already were, and ends
// the accesses in force on all of them, or on no perimeter at all (accesses.md 18.6).
func (s *Service) removeOthers(tx *database.Tx, kept map[int64]Perimeter, existing []Perimeter, now time.Time, report *SyncReport) error {
	var live, gone []int64
	for _, p := range existing {
		if _, stays := kept[p.ID]; stays {
			continue
		}
		gone = append(gone, p.ID)
		if p.Live() {
			live = append(live, p.ID)
			report.differs("-", p)
		}
	}
	if err := tx.Model(&Perimeter{}).Where(database.OneOf("id", live)).Update("delete_datetime", now).Error; err != nil {
		return fmt.Errorf("delete perimeters: %w", err)
	}
	report.Removed += len(live)
	closed := tx.Model(&Access{}).Where(clause.And(clause.Or(clause.Expr{SQL: "perimeter_id IS NULL"}, database.OneOf("perimeter_id", gone)))).
		Where("delete_datetime IS NULL AND start_datetime <= ? AND end_datetime > ?", now, now).Update("end_datetime", now)
	if closed.Error != nil {
		return fmt.Errorf("end the accesses on perimeters that are gone: %w", closed.Error)
	}
	report.ClosedAccesses += closed.RowsAffected
	return nil
}

// site is a node of a source's tree, before it is a perimeter.
type site struct {
	row      Perimeter // with what the source says of itself
	label    string    // its part of the full path
	children []*site
}

// flatten turns a tree of sites into perimeters, parents first: level, lists of ids and full path follow from the places.
func flatten(root *site, rootAbove *string) []Perimeter {
	var rows []Perimeter
	type step struct {
		site  *site
		above []int64
		path  string
	}
	stack := []step{{site: root}}
	for len(stack) > 0 {
		next := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		row := next.site.row
		row.LocalID = joinIDs([]int64{row.ID})
		row.Level = new(len(next.above) + 1)
		row.AboveLevelsIDs = rootAbove
		path := next.site.label
		if len(next.above) > 0 {
			row.ParentID = new(next.above[len(next.above)-1])
			row.AboveLevelsIDs = new(joinIDs(next.above))
			path = next.path + "/" + path
		}
		row.FullPath = &path
		ids := make([]int64, len(next.site.children))
		above := append(slices.Clone(next.above), row.ID)
		for i, child := range next.site.children {
			ids[i] = child.row.ID
		}
		for _, child := range slices.Backward(next.site.children) {
			stack = append(stack, step{child, above, path})
		}
		row.InferiorLevelsIDs = new(joinIDs(ids))
		rows = append(rows, row)
	}
	return rows
}
