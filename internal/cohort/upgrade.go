package cohort

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/queryexec"
)

// UpgradeOptions say what UpgradeQueries does.
type UpgradeOptions struct {
	To      string // one of queryexec.Versions
	Apply   bool   // false: only tell
	Filters bool   // saved filters, too
	// Changed is told of each row that is rewritten, or would be; nil: nobody. Its error ends the pass.
	Changed func(UpgradedRow) error
}

// UpgradedRow is a stored text before and after. Both hold what researchers ask about patients: they are not for logs.
type UpgradedRow struct {
	Table  string    `json:"table"`
	ID     uuid.UUID `json:"uuid"`
	Before string    `json:"before"`
	After  string    `json:"after"`
}

// UpgradeCount is what became, or would become, of the rows of a table that were of one version.
type UpgradeCount struct {
	Table   string // what it holds: "queries" or "filters"
	Version string // "" for those that name none

	There     int // of the version that is wanted already
	Upgraded  int // brought to it, Rewritten ones included
	Rewritten int // more than their version has changed
	Left      int // nothing leads from their version to the wanted one
	Broken    int // cannot be read; left as they are
}

// upgradeBatch is how many rows are read at once.
const upgradeBatch = 500

// UpgradeQueries brings the stored queries and saved filters of all users to a version (cohort.md 25). Deleted rows and those that
// the system made for itself stay as they are. Each row is a transaction of its own, with the text before kept in its history; a
// second pass finds nothing to do. Counts, cohorts and the translations of schedules are not touched: the queries mean the same.
func (s *Service) UpgradeQueries(ctx context.Context, opts UpgradeOptions) ([]UpgradeCount, error) {
	p := &upgrading{service: s, opts: opts}
	queries := stored[Snapshot]{name: "queries", columns: "uuid, serialized_query",
		text: func(r Snapshot) (uuid.UUID, string) { return r.UUID, r.SerializedQuery },
		upgrade: func(r Snapshot) (queryexec.Upgrade, error) {
			return queryexec.UpgradeQuery(r.SerializedQuery, opts.To)
		}, save: s.saveQuery}
	filters := stored[FhirFilter]{name: "filters", columns: "uuid, fhir_resource, query_version, filter",
		text: func(r FhirFilter) (uuid.UUID, string) { return r.UUID, r.Filter },
		upgrade: func(r FhirFilter) (queryexec.Upgrade, error) {
			return queryexec.UpgradeFilter(r.FhirResource, r.Filter, r.QueryVersion, opts.To)
		}, save: s.saveFilter}
	err := queries.upgradeAll(ctx, p)
	if err == nil && opts.Filters {
		err = filters.upgradeAll(ctx, p)
	}
	return p.counts, err
}

// upgrading is one pass over all stored queries.
type upgrading struct {
	service *Service
	opts    UpgradeOptions
	counts  []UpgradeCount
}

// count is the line of a table and version.
func (p *upgrading) count(table, version string) *UpgradeCount {
	for i := range p.counts {
		if p.counts[i].Table == table && p.counts[i].Version == version {
			return &p.counts[i]
		}
	}
	p.counts = append(p.counts, UpgradeCount{Table: table, Version: version})
	return &p.counts[len(p.counts)-1]
}

// stored are the rows of a table that hold something to upgrade.
type stored[T tabler] struct {
	name, columns string
	text          func(T) (uuid.UUID, string)
	upgrade       func(T) (queryexec.Upgrade, error)
	save          func(g *gorm.DB, row T, u queryexec.Upgrade) error
}

// upgradeAll passes over the live rows in the order of their keys, a batch at a time.
func (k stored[T]) upgradeAll(ctx context.Context, p *upgrading) error {
	var last uuid.UUID
	for {
		var rows []T
		err := live[T](p.service.db.Read(ctx)).Select(k.columns).Where("uuid > ?", last).Order("uuid").Limit(upgradeBatch).Find(&rows).Error
		if err != nil {
			return fmt.Errorf("read stored %s: %w", k.name, err)
		}
		for _, row := range rows {
			if last, _ = k.text(row); ctx.Err() != nil {
				return ctx.Err()
			}
			if err := k.upgradeRow(ctx, p, row); err != nil {
				return fmt.Errorf("upgrade one of the %s, %s: %w", k.name, last, err)
			}
		}
		if len(rows) < upgradeBatch {
			return nil
		}
	}
}

func (k stored[T]) upgradeRow(ctx context.Context, p *upgrading, row T) error {
	id, before := k.text(row)
	u, err := k.upgrade(row)
	if !p.note(ctx, k.name, id, u, err) {
		return nil
	}
	if p.opts.Changed != nil && u.Rewritten {
		if err := p.opts.Changed(UpgradedRow{Table: k.name, ID: id, Before: before, After: u.Text}); err != nil {
			return err
		}
	}
	if !p.opts.Apply {
		return nil
	}
	return p.service.db.Update(ctx, func(tx *database.Tx) error { return k.upgradeNow(tx, id) })
}

// upgradeNow locks a row and upgrades what it is now: its owner may have changed or deleted it since it was counted, which the
// next pass sees.
func (k stored[T]) upgradeNow(tx *database.Tx, id uuid.UUID) error {
	var rows []T
	if err := live[T](database.ForUpdate(tx.DB)).Select(k.columns).Where("uuid = ?", id).Find(&rows).Error; err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	u, err := k.upgrade(rows[0])
	if err != nil || u.From == u.To {
		return nil
	}
	return k.save(tx.DB, rows[0], u)
}

// note counts a row, and tells whether it is to be written.
func (p *upgrading) note(ctx context.Context, table string, id uuid.UUID, u queryexec.Upgrade, err error) bool {
	count := p.count(table, u.From)
	switch {
	case errors.Is(err, queryexec.ErrNoWay):
		count.Left++
	case err != nil:
		count.Broken++
		p.service.log.WarnContext(ctx, "a stored query cannot be upgraded", "table", table, "uuid", id, "reason", err)
	case u.From == u.To:
		count.There++
	default:
		count.Upgraded++
		if u.Rewritten {
			count.Rewritten++
		}
		return true
	}
	return false
}

func (s *Service) saveQuery(g *gorm.DB, row Snapshot, u queryexec.Upgrade) error {
	if _, err := s.keepHistory(g, row.UUID, u.Text); err != nil {
		return err
	}
	return g.Model(&Snapshot{}).Where("uuid = ?", row.UUID).Updates(s.stamped(map[string]any{"serialized_query": u.Text})).Error
}

func (s *Service) saveFilter(g *gorm.DB, row FhirFilter, u queryexec.Upgrade) error {
	text := strings.Trim(u.Text, "&=")
	if err := s.keepFilterHistory(g, row.UUID, text); err != nil {
		return err
	}
	return g.Model(&FhirFilter{}).Where("uuid = ?", row.UUID).Updates(s.stamped(map[string]any{"filter": text, "query_version": u.To})).Error
}
