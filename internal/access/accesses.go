package access

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// ListAccesses is a page of accesses, for those who manage some (accesses.md 12.3); an unknown perimeter is a fault.NotFound. With a profile or a
// perimeter in the filter each says whether the caller may manage it. Accesses below the perimeter are included only for
// callers who manage lower levels somewhere. Six queries.
func (s *Service) ListAccesses(ctx context.Context, caller identity.Caller, f AccessFilter, page web.Page) ([]Detail, int64, web.Page, error) {
	h, err := s.of(ctx, caller.Username)
	if err != nil {
		return nil, 0, page, err
	}
	if !h.grants.ManagesAccesses() {
		return nil, 0, page, fault.Forbidden{}
	}
	if f.PerimeterID != nil && h.tree.Live(*f.PerimeterID) == nil {
		return nil, 0, page, fault.NotFound{Model: "Perimeter"}
	}
	f.IncludeChildren = f.IncludeChildren && h.grants.Has(FullAdmin|inferiorRights)
	g := s.db.Read(ctx)
	query := func() *gorm.DB {
		q := f.apply(accesses(g))
		if f.PerimeterID != nil {
			q = f.effectiveOn(q, h.tree, h.now)
		}
		return q
	}
	var total int64
	if err := query().Count(&total).Error; err != nil {
		return nil, 0, page, fmt.Errorf("count accesses: %w", err)
	}
	if page, err = page.Fit(total); err != nil {
		return nil, 0, page, err
	}
	if page.Past(total) {
		return nil, total, page, nil
	}
	list, err := details(g, f.order(query()).Clauses(database.Window(page.Limit, page.Offset)), h.tree, h.now)
	if err != nil {
		return nil, 0, page, err
	}
	if f.annotated() {
		for i := range list {
			list[i].Editable = new(CanManage(h.tree, h.grants, list[i].rights(), list[i].PerimeterID))
		}
	}
	return list, total, page, nil
}

// MyAccesses are the caller's valid accesses, by id. Five queries.
func (s *Service) MyAccesses(ctx context.Context, caller identity.Caller) ([]Detail, error) {
	h, err := s.of(ctx, caller.Username)
	if err != nil || len(h.grants) == 0 {
		return nil, err
	}
	ids := make([]int64, len(h.grants))
	for i, a := range h.grants {
		ids[i] = a.AccessID
	}
	g := s.db.Read(ctx)
	return details(g, accesses(g).Where(database.OneOf("a.id", ids)).Order("a.id"), h.tree, h.now)
}

// MyExpiring are the caller's valid accesses that end between today and the day of the first alert, the first to end of
// each perimeter (accesses.md 12.7). Days are those of UTC.
func (s *Service) MyExpiring(ctx context.Context, caller identity.Caller) ([]Detail, error) {
	mine, err := s.MyAccesses(ctx, caller)
	if err != nil {
		return nil, err
	}
	last := day(s.clock.Now()).AddDate(0, 0, s.cfg.FirstAlertDays+1)
	mine = slices.DeleteFunc(mine, func(d Detail) bool { return d.PerimeterID == nil || !d.EndDatetime.Before(last) })
	slices.SortStableFunc(mine, func(a, b Detail) int { return a.EndDatetime.Compare(*b.EndDatetime) })
	seen := map[int64]bool{}
	return slices.DeleteFunc(mine, func(d Detail) bool {
		again := seen[*d.PerimeterID]
		seen[*d.PerimeterID] = true
		return again
	}), nil
}

// day is the midnight that begins the day in UTC.
func day(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// MyDataRights are the caller's rights on patients' data: on the perimeters, or without any on all those with an access
// that reads (accesses.md 12.8). Two queries.
func (s *Service) MyDataRights(ctx context.Context, caller identity.Caller, perimeters []int64) ([]DataRight, error) {
	h, err := s.of(ctx, caller.Username)
	if err != nil {
		return nil, err
	}
	return DataRights(h.tree, h.grants, caller.Username, perimeters), nil
}

// GetAccess is one access that the caller may manage. Five queries.
func (s *Service) GetAccess(ctx context.Context, caller identity.Caller, id int64) (Detail, error) {
	h, err := s.of(ctx, caller.Username)
	if err != nil {
		return Detail{}, err
	}
	return s.managed(s.db.Read(ctx), h, id)
}

// managed reads an access and refuses one that the user may not manage.
func (s *Service) managed(g *gorm.DB, h held, id int64) (Detail, error) {
	list, err := details(g, accesses(g).Where("a.id = ?", id), h.tree, h.now)
	switch {
	case err != nil:
		return Detail{}, err
	case len(list) == 0:
		return Detail{}, fault.NotFound{Model: "Access"}
	case !CanManage(h.tree, h.grants, list[0].rights(), list[0].PerimeterID):
		return Detail{}, fault.Forbidden{}
	}
	return list[0], nil
}

// NewAccess is what a new access is made of; Start and End may be missing.
type NewAccess struct {
	ProfileID, RoleID, PerimeterID int64
	Start, End                     *time.Time
}

// Dates fills the missing dates in and checks them (accesses.md 12.4, 12.6).
func (s *Service) dates(n *NewAccess) error {
	now := s.clock.Now()
	if n.Start == nil {
		n.Start = &now
	}
	if n.End == nil {
		n.End = new(n.Start.AddDate(0, 0, s.cfg.ValidityDays))
	}
	if n.End.Year() > lastYear {
		return badRequest(msgNoSuchDate)
	}
	return checkDates(now, nil, nil, n.Start, n.End)
}

// The refusals of accesses.md 12.6.
const (
	msgStartOver    = "La date de début ne peut pas être modifiée car elle est passée"
	msgEndOver      = "La date de fin ne peut pas être modifiée car elle est passée"
	msgStartPast    = "La date de début ne peut pas être dans le passé"
	msgEndPast      = "La date de fin ne peut pas être dans le passé"
	msgEndFirst     = "La date de fin ne peut pas précéder la date de début"
	msgNoDates      = "Dates d'accès manquantes"
	msgClosed       = "L'accès est déjà clôturé"
	msgNotBegun     = "L'accès ne peut pas être clôturé car n'a pas encore commencé"
	msgBegun        = "L'accès est déjà activé, il ne peut plus être supprimé."
	msgNoData       = "No data was provided to update access"
	msgOnlyDates    = "Only `start_datetime` and `end_datetime` can be updated"
	msgMissingDates = "Missing dates to updating access"
	msgNoSuchDate   = "date value out of range"
)

// lastYear is the last one that dates can be written in.
const lastYear = 9999

// leeway is how far in the past a new date may lie: clients' clocks and the time a request takes.
const leeway = 10 * time.Second

// checkDates are the rules a to e of accesses.md 12.6: old dates are the stored ones, new ones those that were given.
func checkDates(now time.Time, oldStart, oldEnd, newStart, newEnd *time.Time) error {
	passed := func(old, given *time.Time) bool {
		return old != nil && given != nil && !old.Equal(*given) && old.Before(now)
	}
	past := func(given *time.Time) bool { return given != nil && given.Add(leeway).Before(now) }
	start, end := newStart, newEnd
	if start == nil {
		start = oldStart
	}
	if end == nil {
		end = oldEnd
	}
	switch {
	case passed(oldStart, newStart):
		return badRequest(msgStartOver)
	case passed(oldEnd, newEnd):
		return badRequest(msgEndOver)
	case past(newStart):
		return badRequest(msgStartPast)
	case past(newEnd):
		return badRequest(msgEndPast)
	case start != nil && end != nil && end.Before(*start):
		return badRequest(msgEndFirst)
	}
	return nil
}

// CreateAccess gives a profile a role on a perimeter, if the caller may manage that role there (decision 4). References to
// rows that do not exist or are deleted are a fault.Invalid.
func (s *Service) CreateAccess(ctx context.Context, caller identity.Caller, n NewAccess) (created Detail, err error) {
	if err := s.dates(&n); err != nil {
		return Detail{}, err
	}
	h, err := s.of(ctx, caller.Username)
	if err != nil {
		return Detail{}, err
	}
	err = s.db.Update(ctx, func(tx *database.Tx) error {
		role, err := s.references(tx.DB, h.tree, n)
		if err != nil {
			return err
		}
		if !CanManage(h.tree, h.grants, new(role.Rights()), &n.PerimeterID) {
			return fault.Forbidden{}
		}
		row := Access{
			Stamps: stampsAt(h.now), Source: new(SourceManual), PerimeterID: &n.PerimeterID, ProfileID: &n.ProfileID, RoleID: &n.RoleID,
			CreatedBy: &caller.Username, UpdatedBy: &caller.Username, StartDatetime: n.Start, EndDatetime: n.End,
		}
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create access: %w", err)
		}
		list, err := details(tx.DB, accesses(tx.DB).Where("a.id = ?", row.ID), h.tree, h.now)
		if err == nil && len(list) == 1 {
			created = list[0]
		}
		return err
	})
	return created, err
}

// references checks that what a new access points to is there, and locks its role, lest it be deleted meanwhile.
func (s *Service) references(g *gorm.DB, t *Tree, n NewAccess) (Role, error) {
	var invalid fault.Invalid
	_, found, err := live[Profile](g, n.ProfileID)
	if err != nil {
		return Role{}, err
	}
	if !found {
		invalid.Add("profile_id", web.NoSuchRow(n.ProfileID))
	}
	role, found, err := live[Role](database.ForUpdate(g), n.RoleID)
	if err != nil {
		return Role{}, err
	}
	if !found {
		invalid.Add("role_id", web.NoSuchRow(n.RoleID))
	}
	if t.Live(n.PerimeterID) == nil {
		invalid.Add("perimeter_id", web.NoSuchRow(n.PerimeterID))
	}
	return role, invalid.Err()
}

// PatchDates changes the dates of an access; nil leaves one as it is.
func (s *Service) PatchDates(ctx context.Context, caller identity.Caller, id int64, start, end *time.Time) (Detail, error) {
	return s.change(ctx, caller, id, func(now time.Time, a *Access) error {
		if err := checkDates(now, a.StartDatetime, a.EndDatetime, start, end); err != nil {
			return err
		}
		if start != nil {
			a.StartDatetime = start
		}
		if end != nil {
			a.EndDatetime = end
		}
		return nil
	})
}

// CloseAccess ends an access now, and changes nothing else (decision 4).
func (s *Service) CloseAccess(ctx context.Context, caller identity.Caller, id int64) (Detail, error) {
	return s.change(ctx, caller, id, func(now time.Time, a *Access) error {
		switch {
		case a.StartDatetime == nil || a.EndDatetime == nil:
			return badRequest(msgNoDates)
		case !a.EndDatetime.After(now): // what ended at this very moment is closed
			return badRequest(msgClosed)
		case a.StartDatetime.After(now):
			return badRequest(msgNotBegun)
		}
		a.EndDatetime = &now
		return nil
	})
}

// DeleteAccess removes an access that has not begun.
func (s *Service) DeleteAccess(ctx context.Context, caller identity.Caller, id int64) error {
	_, err := s.change(ctx, caller, id, func(now time.Time, a *Access) error {
		if a.StartDatetime != nil && a.StartDatetime.Before(now) {
			return badRequest(msgBegun)
		}
		a.DeleteDatetime = &now
		return nil
	})
	return err
}

// change applies an edit to an access that the caller may manage, with its row locked.
func (s *Service) change(ctx context.Context, caller identity.Caller, id int64, edit func(now time.Time, a *Access) error) (changed Detail, err error) {
	h, err := s.of(ctx, caller.Username)
	if err != nil {
		return Detail{}, err
	}
	err = s.db.Update(ctx, func(tx *database.Tx) error {
		row, found, err := live[Access](database.ForUpdate(tx.DB), id)
		if err != nil {
			return err
		}
		if !found {
			return fault.NotFound{Model: "Access"}
		}
		if changed, err = s.managed(tx.DB, h, id); err != nil {
			return err
		}
		if err := edit(h.now, &row); err != nil {
			return err
		}
		row.UpdatedBy, row.UpdateDatetime = &caller.Username, &h.now
		err = tx.Model(&row).Select("start_datetime", "end_datetime", "delete_datetime", "updated_by", "update_datetime").Updates(&row).Error
		if err != nil {
			return fmt.Errorf("change access %d: %w", id, err)
		}
		list, err := details(tx.DB, accesses(tx.DB).Where("a.id = ?", id), h.tree, h.now)
		if err == nil && len(list) == 1 {
			changed = list[0]
		}
		return err
	})
	return changed, err
}
