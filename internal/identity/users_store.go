package identity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// Filter is what a list of users may be narrowed by.
type Filter struct {
	Username, Firstname, Lastname, Email string // contained, in any letter case
	Search                               []string
	ManualOnly, WithAccess               bool
	Now                                  time.Time
	Order                                []web.Order
}

// userColumns are the public names of columns a list of users can be ordered by.
var userColumns = map[string]string{
	"firstname": `u.firstname`, "lastname": `u.lastname`, "username": `u.username`, "email": `u.email`,
	"created_by": `creator.lastname`, "updated_by": `updater.lastname`,
}

// userRow is a user with the names of who made and changed them.
type userRow struct {
	User
	CreatorFirst, CreatorLast, UpdaterFirst, UpdaterLast *string
	CreatorDeleted, UpdaterDeleted                       *time.Time
}

func (r userRow) view() UserView {
	return viewOf(r.User, nameOf(r.CreatedBy, r.CreatorFirst, r.CreatorLast, r.CreatorDeleted), nameOf(r.UpdatedBy, r.UpdaterFirst, r.UpdaterLast, r.UpdaterDeleted))
}

func nameOf(username, first, last *string, deleted *time.Time) *string {
	if username == nil {
		return nil
	}
	name := DisplayName(*username, first, last, deleted != nil)
	return &name
}

func (f Filter) apply(q *gorm.DB) *gorm.DB {
	q = q.Table(`"user" AS u`).Where("u.delete_datetime IS NULL")
	for column, text := range map[string]string{"u.username": f.Username, "u.firstname": f.Firstname, "u.lastname": f.Lastname, "u.email": f.Email} {
		if text != "" {
			q = q.Where(database.Contains(column, text))
		}
	}
	for _, term := range f.Search {
		q = q.Where(clause.Or(database.Contains("u.firstname", term), database.Contains("u.lastname", term),
			database.Contains("u.username", term), database.Contains("u.email", term)))
	}
	if f.ManualOnly {
		q = q.Where("EXISTS (SELECT 1 FROM accesses_profile p WHERE p.user_id = u.username AND p.source = 'Manual')")
	}
	if f.WithAccess {
		q = q.Where("EXISTS (SELECT 1 FROM accesses_profile p JOIN accesses_access a ON a.profile_id = p.id WHERE p.user_id = u.username AND p.is_active AND a.start_datetime <= ? AND a.end_datetime >= ?)", f.Now, f.Now)
	}
	return q
}

const userSelect = `u.*, creator.firstname AS creator_first, creator.lastname AS creator_last, creator.delete_datetime AS creator_deleted,
	updater.firstname AS updater_first, updater.lastname AS updater_last, updater.delete_datetime AS updater_deleted`

func joined(q *gorm.DB) *gorm.DB {
	return q.Select(userSelect).Joins(`LEFT JOIN "user" creator ON creator.username = u.created_by`).Joins(`LEFT JOIN "user" updater ON updater.username = u.updated_by`)
}

// List is one page of the users and the number of all that match: two queries.
func (s *Store) List(ctx context.Context, f Filter, p web.Page) ([]userRow, int64, web.Page, error) {
	var total int64
	if err := f.apply(s.db.Read(ctx)).Count(&total).Error; err != nil {
		return nil, 0, p, fmt.Errorf("count users: %w", err)
	}
	p, err := p.Fit(total)
	if err != nil || p.Past(total) {
		return nil, total, p, err
	}
	q := joined(f.apply(s.db.Read(ctx)))
	for _, o := range f.Order {
		q = q.Order(database.OrderBy(userColumns[o.Name], o.Desc))
	}
	var rows []userRow
	if err := q.Order("u.username").Limit(p.Limit).Offset(p.Offset).Scan(&rows).Error; err != nil {
		return nil, 0, p, fmt.Errorf("list users: %w", err)
	}
	return rows, total, p, nil
}

// One is the user of that name if they match the filter.
func (s *Store) One(ctx context.Context, username string, f Filter) (userRow, bool, error) {
	if !storable(username) {
		return userRow{}, false, nil
	}
	var rows []userRow
	if err := joined(f.apply(s.db.Read(ctx))).Where("u.username = ?", username).Limit(1).Scan(&rows).Error; err != nil {
		return userRow{}, false, fmt.Errorf("find user: %w", err)
	}
	if len(rows) == 0 {
		return userRow{}, false, nil
	}
	return rows[0], true, nil
}

type takenKeys struct{ username, email bool }

// taken tells which keys of a user belong to somebody else than self, deleted or not.
func (s *Store) taken(ctx context.Context, username string, email *string, self string) (t takenKeys, err error) {
	var rows []User
	q := s.db.Read(ctx).Select("username", "email").Where("username <> ?", self)
	if email != nil {
		q = q.Where("username = ? OR email = ?", username, *email)
	} else {
		q = q.Where("username = ?", username)
	}
	if err := q.Find(&rows).Error; err != nil {
		return t, fmt.Errorf("look for users with these keys: %w", err)
	}
	for _, r := range rows {
		t.username = t.username || (username != "" && r.Username == username)
		t.email = t.email || (email != nil && r.Email != nil && *r.Email == *email)
	}
	return t, nil
}

func (s *Store) change(ctx context.Context, username string, set map[string]any) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Model(&User{}).Where("username = ? AND delete_datetime IS NULL", username).Updates(set).Error; err != nil {
			return fmt.Errorf("change user: %w", err)
		}
		return nil
	})
}

// Views are the live users of these names, as every representation shows them: one query.
func (s *Store) Views(ctx context.Context, usernames []string) (map[string]UserView, error) {
	views := map[string]UserView{}
	if usernames = slices.DeleteFunc(slices.Clone(usernames), func(name string) bool { return !storable(name) }); len(usernames) == 0 {
		return views, nil
	}
	var rows []userRow
	if err := joined(Filter{}.apply(s.db.Read(ctx))).Where("u.username IN ?", usernames).Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("find users: %w", err)
	}
	for _, r := range rows {
		views[r.Username] = r.view()
	}
	return views, nil
}
