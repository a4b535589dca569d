package access

import (
	"context"
	"encoding/json"
	"fmt"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// profileRow is a profile joined with its user.
type profileRow struct {
	Profile `gorm:"embedded"`
	Holder  person `gorm:"embedded;embeddedPrefix:holder_"`
}

func profiles(g *gorm.DB) *gorm.DB {
	return g.Table("accesses_profile p").Joins(`LEFT JOIN "user" u ON u.username = p.user_id`).Where("p.delete_datetime IS NULL")
}

// listProfiles is a page of profiles: those of a user if one is given, found by the user's names (accesses.md 11).
func (s *Service) listProfiles(ctx context.Context, username string, terms []string, page web.Page) ([]profileRow, int64, web.Page, error) {
	query := func() *gorm.DB {
		q := profiles(s.db.Read(ctx))
		if username != "" {
			q = q.Where("p.user_id = ?", username)
		}
		return search(q, terms, "u.firstname", "u.lastname", "u.username")
	}
	var total int64
	if err := query().Count(&total).Error; err != nil {
		return nil, 0, page, fmt.Errorf("count profiles: %w", err)
	}
	page, err := page.Fit(total)
	if err != nil || page.Past(total) {
		return nil, total, page, err
	}
	rows, err := scanProfiles(query().Order("p.id").Limit(page.Limit).Offset(page.Offset))
	return rows, total, page, err
}

func scanProfiles(q *gorm.DB) (rows []profileRow, err error) {
	if err := q.Select("p.*, " + columnsOf("u", "holder")).Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	return rows, nil
}

func (s *Service) getProfile(ctx context.Context, id int64) (profileRow, error) {
	rows, err := scanProfiles(profiles(s.db.Read(ctx)).Where("p.id = ?", id))
	if err != nil {
		return profileRow{}, err
	}
	if len(rows) == 0 {
		return profileRow{}, fault.NotFound{Model: "Profile"}
	}
	return rows[0], nil
}

// ensureProfile gives a user an active profile of the source, unless there is one that is not deleted, active or not.
func ensureProfile(g *gorm.DB, username, source string, stamps Stamps) (Profile, error) {
	var found []Profile
	err := g.Where("user_id = ? AND source = ? AND delete_datetime IS NULL", username, source).Order("id").Limit(1).Find(&found).Error
	if err != nil {
		return Profile{}, fmt.Errorf("look for the profile of a user: %w", err)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	profile := Profile{Stamps: stamps, Source: &source, IsActive: new(true), UserID: &username}
	if err := g.Create(&profile).Error; err != nil {
		return Profile{}, fmt.Errorf("create the profile of a user: %w", err)
	}
	return profile, nil
}

func marshalText(text string) ([]byte, error) { return json.Marshal(text) }

// EnsureProfile gives a user an active profile for accesses given by hand, within the transaction that creates the user;
// it changes nothing for a user who has one.
func (s *Service) EnsureProfile(tx *database.Tx, username string) error {
	_, err := ensureProfile(tx.DB, username, SourceManual, stampsAt(s.clock.Now()))
	return err
}
