package maintenance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// Store holds the queries about phases; deleted ones are seen by none of them.
type Store struct{ db *database.DB }

// NewStore reads and writes on db.
func NewStore(db *database.DB) *Store { return &Store{db: db} }

// Filter is what a list may be narrowed by.
type Filter struct {
	Subject                      string
	Start, End, MinStart, MaxEnd *time.Time
	Search                       []string
	Order                        []web.Order
}

func (f Filter) apply(q *gorm.DB) *gorm.DB {
	q = q.Model(&Phase{}).Where("delete_datetime IS NULL")
	if f.Subject != "" {
		q = q.Where("subject = ?", f.Subject)
	}
	for condition, at := range map[string]*time.Time{"start_datetime = ?": f.Start, "end_datetime = ?": f.End, "start_datetime >= ?": f.MinStart, "end_datetime <= ?": f.MaxEnd} {
		if at != nil {
			q = q.Where(condition, *at)
		}
	}
	for _, term := range f.Search {
		q = q.Where(database.Contains("subject", term))
	}
	return q
}

// List is one page of the phases and the number of all that match: two queries.
func (s *Store) List(ctx context.Context, f Filter, p web.Page) ([]Phase, int64, web.Page, error) {
	var total int64
	if err := f.apply(s.db.Read(ctx)).Count(&total).Error; err != nil {
		return nil, 0, p, fmt.Errorf("count maintenance phases: %w", err)
	}
	p, err := p.Fit(total)
	if err != nil || p.Past(total) {
		return nil, total, p, err
	}
	q := f.apply(s.db.Read(ctx))
	for _, o := range f.Order {
		q = q.Order(database.OrderBy(o.Name, o.Desc))
	}
	var phases []Phase
	if err := q.Order("id").Limit(p.Limit).Offset(p.Offset).Find(&phases).Error; err != nil {
		return nil, 0, p, fmt.Errorf("list maintenance phases: %w", err)
	}
	return phases, total, p, nil
}

// Get is one phase.
func (s *Store) Get(ctx context.Context, id int64) (Phase, error) {
	var p Phase
	err := s.db.Read(ctx).Where("id = ? AND delete_datetime IS NULL", id).Take(&p).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Phase{}, fault.NotFound{Model: "MaintenancePhase"}
	}
	if err != nil {
		return Phase{}, fmt.Errorf("find maintenance phase: %w", err)
	}
	return p, nil
}

// Any is one phase, deleted or not.
func (s *Store) Any(ctx context.Context, id int64) (Phase, error) {
	var p Phase
	if err := s.db.Read(ctx).Take(&p, id).Error; err != nil {
		return Phase{}, fmt.Errorf("find maintenance phase %d: %w", id, err)
	}
	return p, nil
}

// Next is the current phase that ends last, or else the one to come that starts first (system.md 7.4); nil for none.
func (s *Store) Next(ctx context.Context, now time.Time) (*Phase, error) {
	var phases []Phase
	err := s.db.Read(ctx).Where("delete_datetime IS NULL AND end_datetime >= ?", now).Find(&phases).Error
	if err != nil {
		return nil, fmt.Errorf("find the next maintenance phase: %w", err)
	}
	var current, coming *Phase
	for i := range phases {
		switch p := &phases[i]; {
		case !p.StartDatetime.After(now):
			if current == nil || p.EndDatetime.After(current.EndDatetime) {
				current = p
			}
		case coming == nil || p.StartDatetime.Before(coming.StartDatetime):
			coming = p
		}
	}
	if current != nil {
		return current, nil
	}
	return coming, nil
}

// Touching are the phases that start or end within a window.
func (s *Store) Touching(ctx context.Context, from, to time.Time) ([]Phase, error) {
	var phases []Phase
	err := s.db.Read(ctx).Where("delete_datetime IS NULL AND ((start_datetime BETWEEN ? AND ?) OR (end_datetime BETWEEN ? AND ?))", from, to, from, to).Find(&phases).Error
	if err != nil {
		return nil, fmt.Errorf("find maintenance phases that begin or end: %w", err)
	}
	return phases, nil
}

// Create adds a phase.
func (s *Store) Create(ctx context.Context, p *Phase) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Create(p).Error; err != nil {
			return fmt.Errorf("create maintenance phase: %w", err)
		}
		return nil
	})
}

// Change locks a phase, lets f change it, and writes it.
func (s *Store) Change(ctx context.Context, id int64, f func(p *Phase) error) (Phase, error) {
	var p Phase
	err := s.db.Update(ctx, func(tx *database.Tx) error {
		err := database.ForUpdate(tx.DB).Where("id = ? AND delete_datetime IS NULL", id).Take(&p).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return fault.NotFound{Model: "MaintenancePhase"}
		}
		if err != nil {
			return fmt.Errorf("find maintenance phase: %w", err)
		}
		if err := f(&p); err != nil {
			return err
		}
		err = tx.Model(&Phase{}).Where("id = ?", id).Select("subject", "message", "type", "start_datetime", "end_datetime", "update_datetime", "delete_datetime").Updates(&p).Error
		if err != nil {
			return fmt.Errorf("change maintenance phase: %w", err)
		}
		return nil
	})
	return p, err
}
