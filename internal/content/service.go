// Package content serves the banners and release notes that the fronts show (contract: system.md, section 11). Anyone
// may read them, even before signing in; full administrators write them. It knows nothing of where they are shown.
package content

import (
	"context"
	"slices"
	"strings"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// Service reads and writes contents.
type Service struct {
	db    *database.DB
	clock clock.Clock
}

// New keeps what it is given.
func New(db *database.DB, clk clock.Clock) *Service { return &Service{db: db, clock: clk} }

// Get is one content.
func (s *Service) Get(ctx context.Context, id int64) (Content, error) { return get(s.db.Read(ctx), id) }

// Create makes a content.
func (s *Service) Create(ctx context.Context, body web.Object) (Content, error) {
	now := s.clock.Now()
	c := Content{CreatedAt: now, ModifiedAt: now}
	if _, err := read(web.FieldsOf(body, false), &c); err != nil {
		return Content{}, err
	}
	return c, s.create(ctx, &c)
}

// Change changes the fields that the body has; metadata are replaced as a whole, or left alone.
func (s *Service) Change(ctx context.Context, id int64, body web.Object) (Content, error) {
	return s.change(ctx, id, func(c *Content) (bool, error) {
		c.ModifiedAt = s.clock.Now()
		return read(web.FieldsOf(body, true), c)
	})
}

// Delete hides a content.
func (s *Service) Delete(ctx context.Context, id int64) error {
	return s.delete(ctx, id, s.clock.Now())
}

// read takes the fields of a body.
func read(f *web.Fields, c *Content) (metadata bool, err error) {
	c.Title = f.String("title", web.Required, web.MaxLen(200)).Or(c.Title)
	c.Content = f.String("content", web.Required).Or(c.Content)
	c.Page = f.String("page", web.Required, web.MaxLen(100)).Or(c.Page)
	kind := f.String("content_type", web.Required, web.MaxLen(20))
	if kind.Set && !slices.Contains(types, kind.Value) {
		f.Add("content_type", "Invalid content type. Available types are: "+strings.Join(types, ", "))
	}
	c.ContentType = kind.Or(c.ContentType)
	if deleted := f.Time("deleted_at", web.Nullable); deleted.Set {
		c.DeletedAt = deleted.Ptr()
	}
	if f.HasKey("metadata") {
		c.Metadata, metadata = readMetadata(f), true
	}
	return metadata, f.Err()
}

// readMetadata reads an object of texts, whose names are few.
func readMetadata(f *web.Fields) []Metadata {
	raw := f.Raw("metadata")
	if raw == nil {
		f.Add("metadata", web.MsgNull)
		return nil
	}
	object, isObject := raw.(map[string]any)
	if !isObject {
		f.Add("metadata", "Expected a dictionary of items but got type \""+web.PythonType(raw)+"\".")
		return nil
	}
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var list []Metadata
	values, wrong := web.FieldsOf(object, false), []string{}
	for _, key := range keys {
		list = append(list, Metadata{Name: key, Value: values.String(key, web.MaxLen(255)).Value})
		if !slices.Contains(names, key) {
			wrong = append(wrong, key)
		}
	}
	switch {
	case values.Err() != nil:
		messages := map[string]any{}
		for _, key := range values.Fields() {
			messages[key] = values.Messages(key)
		}
		f.Add("metadata", messages)
	case len(wrong) > 0:
		f.Add("metadata", "Invalid metadata name(s): "+strings.Join(wrong, ", ")+". Must be one of "+strings.Join(names, ", "))
	}
	return list
}
