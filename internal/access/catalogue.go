package access

import (
	"context"
	"fmt"

	"cohortflow/internal/platform/fault"
)

// rightView is accesses.md 8.1.
type rightView struct {
	Name      string  `json:"name"`
	Label     string  `json:"label"`
	DependsOn *string `json:"depends_on"`
	Category  string  `json:"category"`
	IsGlobal  bool    `json:"is_global"`
}

// rightBrief is a right within its category.
type rightBrief struct {
	Name      string  `json:"name"`
	Label     string  `json:"label"`
	DependsOn *string `json:"depends_on"`
}

// categoryView is accesses.md 8.2.
type categoryView struct {
	Name     string       `json:"name"`
	IsGlobal bool         `json:"is_global"` // that of its first right
	Rights   []rightBrief `json:"rights"`
}

// catalogue is the description of all rights, by id: what the migrations inserted is in the portal's order.
func (s *Service) catalogue(ctx context.Context) (rights []CatalogueRight, names map[int64]string, err error) {
	if err := s.db.Read(ctx).Where("delete_datetime IS NULL").Order("id").Find(&rights).Error; err != nil {
		return nil, nil, fmt.Errorf("read the catalogue of rights: %w", err)
	}
	names = make(map[int64]string, len(rights))
	for _, r := range rights {
		names[r.ID] = r.Name
	}
	return rights, names, nil
}

func nameOf(names map[int64]string, id *int64) *string {
	if id == nil {
		return nil
	}
	if name, found := names[*id]; found {
		return &name
	}
	return nil
}

// categories groups the catalogue, in the order of first appearance (accesses.md 9.1).
func (s *Service) categories(ctx context.Context) ([]categoryView, error) {
	rights, names, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	list := []categoryView{}
	place := map[string]int{}
	for _, r := range rights {
		at, seen := place[r.Category]
		if !seen {
			at = len(list)
			place[r.Category] = at
			list = append(list, categoryView{Name: r.Category, IsGlobal: r.IsGlobal})
		}
		list[at].Rights = append(list[at].Rights, rightBrief{r.Name, r.Label, nameOf(names, r.DependsOnID)})
	}
	return list, nil
}

func (s *Service) right(ctx context.Context, id int64) (rightView, error) {
	rights, names, err := s.catalogue(ctx)
	if err != nil {
		return rightView{}, err
	}
	for _, r := range rights {
		if r.ID == id {
			return rightView{r.Name, r.Label, nameOf(names, r.DependsOnID), r.Category, r.IsGlobal}, nil
		}
	}
	return rightView{}, fault.NotFound{Model: "Right"}
}
