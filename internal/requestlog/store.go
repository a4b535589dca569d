package requestlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// Filter is what a list of rows may be narrowed by (system.md 6.2).
type Filter struct {
	Methods       []string
	Statuses      []int32
	After, Before *time.Time
	MinMs, MaxMs  *float64
	ID            *float64
	// Contained holds texts that occur in the column, Exact whole values, both by column; empty ones are no filter.
	Contained, Exact map[string]string
	RemoteAddr       string
	Search           []string // terms that occur in the path
	Order            []web.Order
}

func (f Filter) apply(q *gorm.DB) *gorm.DB {
	q = q.Model(&Row{})
	if f.Methods != nil {
		q = q.Where("method IN ?", f.Methods)
	}
	if f.Statuses != nil {
		q = q.Where("status_code IN ?", f.Statuses)
	}
	if f.After != nil {
		q = q.Where("requested_at >= ?", *f.After)
	}
	if f.Before != nil {
		q = q.Where("requested_at <= ?", *f.Before)
	}
	q = whole(q, f)
	for column, text := range f.Contained {
		if text != "" {
			q = q.Where(database.Contains(column, text))
		}
	}
	for column, text := range f.Exact {
		if text != "" {
			q = q.Where("? = ?", gorm.Expr(`"`+column+`"`), text)
		}
	}
	if f.RemoteAddr != "" {
		if net.ParseIP(f.RemoteAddr) == nil { // the column holds addresses only
			return q.Where("1 = 0")
		}
		q = q.Where("remote_addr = ?", f.RemoteAddr)
	}
	for _, term := range f.Search {
		q = q.Where(database.Contains("path", term))
	}
	return q
}

// whole compares whole-numbered columns with numbers that may be fractions, or larger than any row's.
func whole(q *gorm.DB, f Filter) *gorm.DB {
	clamp := func(x float64) int32 { return int32(max(math.MinInt32, min(math.MaxInt32, x))) }
	if f.MinMs != nil {
		q = q.Where("response_ms >= ?", clamp(math.Ceil(*f.MinMs)))
	}
	if f.MaxMs != nil {
		q = q.Where("response_ms <= ?", clamp(math.Floor(*f.MaxMs)))
	}
	if f.ID != nil {
		if *f.ID != math.Trunc(*f.ID) || math.Abs(*f.ID) > math.MaxInt32 {
			return q.Where("1 = 0")
		}
		q = q.Where("id = ?", clamp(*f.ID))
	}
	return q
}

// List is one page of the rows and the number of all that match: two queries.
func (l *Log) List(ctx context.Context, f Filter, p web.Page) ([]Row, int64, web.Page, error) {
	var total int64
	if err := f.apply(l.db.Read(ctx)).Count(&total).Error; err != nil {
		return nil, 0, p, fmt.Errorf("count request log rows: %w", err)
	}
	p, err := p.Fit(total)
	if err != nil || p.Past(total) {
		return nil, total, p, err
	}
	q := f.apply(l.db.Read(ctx))
	for _, o := range f.Order {
		q = q.Order(database.OrderBy(o.Name, o.Desc))
	}
	var rows []Row
	if err := q.Order("id").Limit(p.Limit).Offset(p.Offset).Find(&rows).Error; err != nil {
		return nil, 0, p, fmt.Errorf("list request log rows: %w", err)
	}
	return rows, total, p, nil
}

// Get is one row.
func (l *Log) Get(ctx context.Context, id int64) (Row, error) {
	var row Row
	err := l.db.Read(ctx).Where("id = ?", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Row{}, fault.NotFound{Model: "APIRequestLog"}
	}
	if err != nil {
		return Row{}, fmt.Errorf("find request log row: %w", err)
	}
	return row, nil
}
