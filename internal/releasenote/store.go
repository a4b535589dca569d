package releasenote

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// lines is the message as one text, for searching.
func lines(q *gorm.DB) clause.Expr {
	if database.DialectOf(q) == database.SQLite {
		return clause.Expr{SQL: "(SELECT group_concat(value, char(10)) FROM json_each(message))"}
	}
	return clause.Expr{SQL: "array_to_string(message, chr(10))"}
}

func matching(q *gorm.DB, search []string) *gorm.DB {
	q = q.Model(&Note{}).Where("delete_datetime IS NULL")
	for _, term := range search {
		q = q.Where(clause.Or(database.Contains("title", term), database.Contains(lines(q), term)))
	}
	return q
}

// page is two queries: the count, and the page, newest first.
func (s *Service) page(ctx context.Context, search []string, p web.Page) (notes []Note, total int64, fitted web.Page, err error) {
	if err := matching(s.db.Read(ctx), search).Count(&total).Error; err != nil {
		return nil, 0, p, fmt.Errorf("count release notes: %w", err)
	}
	if p, err = p.Fit(total); err != nil || p.Past(total) {
		return nil, total, p, err
	}
	q := matching(s.db.Read(ctx), search).Order(database.OrderBy("insert_datetime", true)).Order("id DESC")
	if err := q.Limit(p.Limit).Offset(p.Offset).Find(&notes).Error; err != nil {
		return nil, 0, p, fmt.Errorf("list release notes: %w", err)
	}
	return notes, total, p, nil
}

func get(q *gorm.DB, id int64) (Note, error) {
	var n Note
	err := q.Where("id = ? AND delete_datetime IS NULL", id).Take(&n).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Note{}, fault.NotFound{Model: "ReleaseNote"}
	}
	if err != nil {
		return Note{}, fmt.Errorf("find release note: %w", err)
	}
	return n, nil
}

func (s *Service) create(ctx context.Context, n *Note) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Create(n).Error; err != nil {
			return fmt.Errorf("create release note: %w", err)
		}
		return nil
	})
}

// change locks a note, lets f change it, and writes it.
func (s *Service) change(ctx context.Context, id int64, f func(n *Note) error) (Note, error) {
	var n Note
	err := s.db.Update(ctx, func(tx *database.Tx) (err error) {
		if n, err = get(database.ForUpdate(tx.DB), id); err != nil {
			return err
		}
		if err := f(&n); err != nil {
			return err
		}
		if err := tx.Model(&Note{}).Where("id = ?", id).Select("title", "message", "author", "update_datetime").Updates(&n).Error; err != nil {
			return fmt.Errorf("change release note: %w", err)
		}
		return nil
	})
	return n, err
}
