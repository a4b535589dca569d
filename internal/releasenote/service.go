// Package releasenote keeps the notes about releases (contract: system.md, section 8). Whoever is signed in reads them,
// full administrators write them. They are never deleted here. The fronts show those of package content instead; these
// are for whoever still calls the older API.
package releasenote

import (
	"context"
	"strconv"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// Service reads and writes notes.
type Service struct {
	db    *database.DB
	clock clock.Clock
}

// New keeps what it is given.
func New(db *database.DB, clk clock.Clock) *Service { return &Service{db: db, clock: clk} }

// Get is one note.
func (s *Service) Get(ctx context.Context, id int64) (Note, error) { return get(s.db.Read(ctx), id) }

// Create makes a note; without a message it has no lines.
func (s *Service) Create(ctx context.Context, body web.Object) (Note, error) {
	now := s.clock.Now()
	n := Note{Message: database.StringArray{}, InsertDatetime: &now, UpdateDatetime: &now}
	if err := read(web.FieldsOf(body, false), &n); err != nil {
		return Note{}, err
	}
	return n, s.create(ctx, &n)
}

// Change changes the fields that the body has.
func (s *Service) Change(ctx context.Context, id int64, body web.Object) (Note, error) {
	return s.change(ctx, id, func(n *Note) error {
		now := s.clock.Now()
		n.UpdateDatetime = &now
		return read(web.FieldsOf(body, true), n)
	})
}

func read(f *web.Fields, n *Note) error {
	n.Title = f.String("title", web.Required).Or(n.Title)
	if f.HasKey("message") {
		n.Message = readLines(f)
	}
	if author := f.String("author", web.Nullable); author.Set {
		n.Author = author.Ptr()
	}
	return f.Err()
}

// readLines reads a list of texts; what is wrong with an item is told under its number.
func readLines(f *web.Fields) database.StringArray {
	raw := f.Raw("message")
	if raw == nil {
		f.Add("message", web.MsgNull)
		return nil
	}
	items, isList := raw.([]any)
	if !isList {
		f.Add("message", "Expected a list of items but got type \""+web.PythonType(raw)+"\".")
		return nil
	}
	list, messages := database.StringArray{}, map[string]any{}
	for i, item := range items {
		number := strconv.Itoa(i)
		value := web.FieldsOf(web.Object{number: item}, false)
		list = append(list, value.String(number).Value)
		if value.Has(number) {
			messages[number] = value.Messages(number)
		}
	}
	if len(messages) > 0 {
		f.Add("message", messages)
	}
	return list
}
