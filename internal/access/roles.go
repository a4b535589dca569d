package access

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// RoleFilter restricts a list of roles: to names that contain a text, to rights that are held and rights that are not.
type RoleFilter struct {
	Name          string
	With, Without Rights
	Order         []web.Order // "name"
}

// ListRoles is a page of roles. There are a few dozen of them: one query.
func (s *Service) ListRoles(ctx context.Context, f RoleFilter, page web.Page) ([]Role, int64, error) {
	roles, err := s.store.roles(ctx)
	if err != nil {
		return nil, 0, err
	}
	wanted := strings.ToLower(f.Name)
	roles = slices.DeleteFunc(roles, func(r Role) bool {
		return !strings.Contains(strings.ToLower(deref(r.Name)), wanted) || !r.Rights().HasAll(f.With) || r.Rights().Has(f.Without)
	})
	for _, o := range slices.Backward(f.Order) {
		slices.SortStableFunc(roles, func(a, b Role) int { return ordered(a.Name, b.Name, o.Desc) })
	}
	return cut(roles, page), int64(len(roles)), nil
}

// ordered compares nullable texts as lists order them: whatever their case, null last, or first in descending order.
func ordered(a, b *string, desc bool) int {
	c := 0
	switch {
	case a == nil && b == nil:
	case a == nil:
		c = 1
	case b == nil:
		c = -1
	default:
		c = cmp.Or(strings.Compare(strings.ToLower(*a), strings.ToLower(*b)), strings.Compare(*a, *b))
	}
	if desc {
		return -c
	}
	return c
}

// cut is the part of a list in memory that a page asks for.
func cut[T any](list []T, page web.Page) []T {
	from := min(page.Offset, len(list))
	return list[from:min(from+page.Limit, len(list))]
}

// GetRole is one role.
func (s *Service) GetRole(ctx context.Context, id int64) (Role, error) {
	role, found, err := live[Role](s.db.Read(ctx), id)
	if err == nil && !found {
		err = fault.NotFound{Model: "Role"}
	}
	return role, err
}

// consistent refuses combinations of rights that make no sense (accesses.md 5.2).
func consistent(r Rights) error {
	switch {
	case r.Has(FullAdmin) && r != AllRights:
		return badRequest("Cannot create a Full Admin role with falsy rights")
	case !r.Has(ReadNominative) && r.Has(ReadPseudonymized) && r.Has(ExportCSVXLSXNominative|ExportJupyterNominative):
		return badRequest("Cannot create a role allowing to read patient data in pseudo and export nominative data")
	case r.Has(SearchByIPP) && !r.Has(ReadNominative):
		return badRequest("Cannot create a role allowing to search by IPP but not read patient data in nominative mode")
	case r.Has(managingRights) && !r.Has(ManageUsers):
		return badRequest("Cannot create a role allowing to manage accesses but not users")
	}
	return nil
}

// RolePatch is what is to change of a role, or what a new one is made of.
type RolePatch struct {
	Name    web.Opt[string]
	Set     Rights // to be held
	Cleared Rights // not to be held
}

func (p RolePatch) apply(r *Role) {
	if p.Name.Set {
		r.Name = p.Name.Ptr()
	}
	r.Flags = FlagsOf(r.Rights()&^p.Cleared | p.Set)
}

// mustBeFullAdmin refuses everybody else.
func (s *Service) mustBeFullAdmin(ctx context.Context, caller identity.Caller) error {
	full, err := s.IsFullAdmin(ctx, caller.Username)
	if err == nil && !full {
		err = fault.Forbidden{}
	}
	return err
}

// CreateRole makes a role, for full admins.
func (s *Service) CreateRole(ctx context.Context, caller identity.Caller, p RolePatch) (Role, error) {
	if err := s.mustBeFullAdmin(ctx, caller); err != nil {
		return Role{}, err
	}
	role := Role{Stamps: stampsAt(s.clock.Now())}
	p.apply(&role)
	if err := consistent(role.Rights()); err != nil {
		return Role{}, err
	}
	err := s.db.Update(ctx, func(tx *database.Tx) error { return nameTaken(tx.Create(&role).Error) })
	return role, err
}

// nameTaken turns the refusal of the unique index into the contract's message.
func nameTaken(err error) error {
	if index, ok := database.UniqueViolation(err); ok && index == "unique_name" {
		return fault.Field("name", "role with this name already exists.")
	}
	if err != nil {
		return fmt.Errorf("write role: %w", err)
	}
	return nil
}

// PatchRole changes a role, for full admins; the rules look at what comes out of it.
func (s *Service) PatchRole(ctx context.Context, caller identity.Caller, id int64, p RolePatch) (role Role, err error) {
	err = s.changeRole(ctx, caller, id, func(tx *database.Tx, now time.Time, r *Role) error {
		p.apply(r)
		r.UpdateDatetime = &now
		role = *r
		return consistent(r.Rights())
	})
	return role, err
}

// DeleteRole removes a role that is not full administration and that no access has, not even an ended one (10.5); for full
// admins.
func (s *Service) DeleteRole(ctx context.Context, caller identity.Caller, id int64) error {
	return s.changeRole(ctx, caller, id, func(tx *database.Tx, now time.Time, r *Role) error {
		if r.Rights().Has(FullAdmin) {
			return fault.Refused{Status: http.StatusForbidden, Body: map[string]string{"error": "Cannot delete the Full Admin role"}}
		}
		var used int64
		err := tx.Model(&Access{}).Where("role_id = ? AND delete_datetime IS NULL", id).Count(&used).Error
		if err != nil {
			return fmt.Errorf("count the accesses of role %d: %w", id, err)
		}
		if used > 0 {
			return fault.Refused{Status: http.StatusForbidden, Body: map[string]string{"error": "This role is attached to existing accesses"}}
		}
		r.DeleteDatetime = &now
		return nil
	})
}

func (s *Service) changeRole(ctx context.Context, caller identity.Caller, id int64, edit func(tx *database.Tx, now time.Time, r *Role) error) error {
	if err := s.mustBeFullAdmin(ctx, caller); err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx *database.Tx) error {
		role, found, err := live[Role](database.ForUpdate(tx.DB), id)
		if err != nil {
			return err
		}
		if !found {
			return fault.NotFound{Model: "Role"}
		}
		if err := edit(tx, s.clock.Now(), &role); err != nil {
			return err
		}
		return nameTaken(tx.Save(&role).Error)
	})
}

// AssignableRoles are the roles that the user may give on a perimeter (accesses.md 10.7). Three queries.
func (s *Service) AssignableRoles(ctx context.Context, username string, perimeter int64) ([]Role, error) {
	h, err := s.of(ctx, username)
	if err != nil {
		return nil, err
	}
	if h.tree.Live(perimeter) == nil {
		return nil, fault.NotFound{Model: "Perimeter"}
	}
	roles, err := s.store.roles(ctx)
	if err != nil {
		return nil, err
	}
	scope := h.grants.scopeOn(h.tree, &perimeter)
	return slices.DeleteFunc(roles, func(r Role) bool { return !scope.manages(new(r.Rights())) }), nil
}

// RoleUser is one valid access with a role, and who holds it.
type RoleUser struct {
	Holder        person  `gorm:"embedded;embeddedPrefix:holder_"`
	PerimeterName *string // of the perimeter
	StartDatetime time.Time
	EndDatetime   time.Time
}

// roleUserKeys are what role users are ordered by (accesses.md 10.6).
var roleUserKeys = map[string]func(a, b RoleUser) int{
	"username":       byText(func(u RoleUser) *string { return u.Holder.Username }),
	"firstname":      byText(func(u RoleUser) *string { return u.Holder.Firstname }),
	"lastname":       byText(func(u RoleUser) *string { return u.Holder.Lastname }),
	"email":          byText(func(u RoleUser) *string { return u.Holder.Email }),
	"perimeter":      byText(func(u RoleUser) *string { return u.PerimeterName }),
	"start_datetime": func(a, b RoleUser) int { return a.StartDatetime.Compare(b.StartDatetime) },
	"end_datetime":   func(a, b RoleUser) int { return a.EndDatetime.Compare(b.EndDatetime) },
}

func byText(key func(RoleUser) *string) func(a, b RoleUser) int {
	return func(a, b RoleUser) int { return strings.Compare(deref(key(a)), deref(key(b))) }
}

// RoleUsers are the people who hold a role now, one for each access: those with a text in their user name or, whatever its
// case, in their first or last name; in the order of a key, "-key" for the reverse. Two queries.
func (s *Service) RoleUsers(ctx context.Context, id int64, name, order string) ([]RoleUser, error) {
	if _, err := s.GetRole(ctx, id); err != nil {
		return nil, err
	}
	now := s.clock.Now()
	var users []RoleUser
	err := s.db.Read(ctx).Table("accesses_access a").
		Joins("JOIN accesses_profile p ON p.id = a.profile_id").Joins(`JOIN "user" u ON u.username = p.user_id`).
		Joins("LEFT JOIN accesses_perimeter pe ON pe.id = a.perimeter_id").
		Where("a.delete_datetime IS NULL AND a.role_id = ? AND a.start_datetime <= ? AND a.end_datetime > ?", id, now, now).
		Select("a.start_datetime, a.end_datetime, pe.name AS perimeter_name, " + columnsOf("u", "holder")).Order("a.id").Scan(&users).Error
	if err != nil {
		return nil, fmt.Errorf("read the users of role %d: %w", id, err)
	}
	lower := strings.ToLower(name)
	users = slices.DeleteFunc(users, func(u RoleUser) bool {
		return !strings.Contains(deref(u.Holder.Username), lower) && !strings.Contains(strings.ToLower(deref(u.Holder.Firstname)), lower) &&
			!strings.Contains(strings.ToLower(deref(u.Holder.Lastname)), lower)
	})
	key, desc := strings.CutPrefix(cmp.Or(order, "lastname"), "-")
	if by, found := roleUserKeys[key]; found {
		slices.SortStableFunc(users, func(a, b RoleUser) int {
			if desc {
				return by(b, a)
			}
			return by(a, b)
		})
	}
	return users, nil
}
