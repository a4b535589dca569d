package content

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// filter is what a list may be narrowed by.
type filter struct {
	types, pages []string // nil: all
	search       []string
	order        []web.Order
}

func (f filter) apply(q *gorm.DB) *gorm.DB {
	q = q.Model(&Content{}).Where("deleted_at IS NULL")
	if f.types != nil {
		known := slices.DeleteFunc(slices.Clone(f.types), func(name string) bool { return labels[name] == "" })
		q = q.Where("content_type IN ?", append(known, "")) // none known: nothing matches
	}
	if f.pages != nil {
		q = q.Where("page IN ?", f.pages)
	}
	for _, term := range f.search {
		q = q.Where(clause.Or(database.Contains("title", term), database.Contains("content", term)))
	}
	return q
}

// page is three queries: the count, the page, its metadata.
func (s *Service) page(ctx context.Context, f filter, p web.Page) (contents []Content, total int64, fitted web.Page, err error) {
	if err := f.apply(s.db.Read(ctx)).Count(&total).Error; err != nil {
		return nil, 0, p, fmt.Errorf("count contents: %w", err)
	}
	if p, err = p.Fit(total); err != nil || p.Past(total) {
		return nil, total, p, err
	}
	q := f.apply(s.db.Read(ctx)).Preload("Metadata")
	for _, o := range f.order {
		q = q.Order(database.OrderBy(o.Name, o.Desc))
	}
	err = q.Order("created_at DESC, id DESC").Limit(p.Limit).Offset(p.Offset).Find(&contents).Error
	if err != nil {
		return nil, 0, p, fmt.Errorf("list contents: %w", err)
	}
	return contents, total, p, nil
}

// get is one content that is not deleted.
func get(q *gorm.DB, id int64) (Content, error) {
	var content Content
	err := q.Preload("Metadata").Where("deleted_at IS NULL").Take(&content, id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Content{}, fault.NotFound{Model: "Content"}
	}
	if err != nil {
		return Content{}, fmt.Errorf("find content: %w", err)
	}
	return content, nil
}

func (s *Service) create(ctx context.Context, c *Content) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Create(c).Error; err != nil {
			return fmt.Errorf("create content: %w", err)
		}
		return nil
	})
}

// change locks a content, lets f change it, and writes it; f tells whether the metadata were replaced.
func (s *Service) change(ctx context.Context, id int64, f func(c *Content) (metadata bool, err error)) (Content, error) {
	var content Content
	err := s.db.Update(ctx, func(tx *database.Tx) (err error) {
		if content, err = get(database.ForUpdate(tx.DB), id); err != nil {
			return err
		}
		metadata, err := f(&content)
		if err != nil {
			return err
		}
		err = tx.Model(&Content{}).Where("id = ?", id).Select("title", "content", "page", "content_type", "modified_at", "deleted_at").Updates(&content).Error
		if err != nil {
			return fmt.Errorf("change content: %w", err)
		}
		if !metadata {
			return nil
		}
		return replaceMetadata(tx, &content)
	})
	return content, err
}

func replaceMetadata(tx *database.Tx, c *Content) error {
	if err := tx.Where("content_id = ?", c.ID).Delete(&Metadata{}).Error; err != nil {
		return fmt.Errorf("forget the metadata of a content: %w", err)
	}
	if len(c.Metadata) == 0 {
		return nil
	}
	for i := range c.Metadata {
		c.Metadata[i].ContentID = c.ID
	}
	if err := tx.Create(&c.Metadata).Error; err != nil {
		return fmt.Errorf("write the metadata of a content: %w", err)
	}
	return nil
}

// delete hides a content; the row stays.
func (s *Service) delete(ctx context.Context, id int64, now time.Time) error {
	_, err := s.change(ctx, id, func(c *Content) (bool, error) {
		c.DeletedAt = &now
		return false, nil
	})
	return err
}
