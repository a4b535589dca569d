package access

import (
	"fmt"
	"slices"

	"cohortflow/internal/platform/database"
)

// staff follows who works in the hospital: whoever does has a profile for the directory's accesses, and whoever has left
// loses it with them (accesses.md 20, the Practitioner pass). Of several entries for one user an active one counts. Entries
// that do not say whether they are active change nothing. It returns who has left.
func (r *orbisRun) staff(tx *database.Tx, answer orbisAnswer) (left map[string]bool, err error) {
	works := map[string]bool{}
	for _, entry := range answer.staff {
		username := entry.Identifier[0].Value
		if entry.Active != nil && slices.Contains(answer.asked, username) {
			works[username] = works[username] || *entry.Active
		}
	}
	left = map[string]bool{}
	for _, username := range answer.asked {
		stays, said := works[username]
		switch {
		case !said:
		case stays:
			err = r.employ(tx, username)
		default:
			left[username] = true
			err = r.dismiss(tx, username)
		}
		if err != nil {
			return nil, fmt.Errorf("profile of user %s: %w", username, err)
		}
	}
	return left, nil
}

// departure names in engine_tick that dismiss made a profile inactive, so that employ may take that back: a profile that
// somebody else made inactive stays so.
func departure(profile int64) string { return fmt.Sprintf("orbis-left/%d", profile) }

// employ gives a user an active profile, or gives back the one that dismiss took.
func (r *orbisRun) employ(tx *database.Tx, username string) error {
	var known int64
	err := tx.Model(&Profile{}).Where("user_id = ? AND source = ? AND delete_datetime IS NULL", username, SourceOrbis).Count(&known).Error
	if err != nil {
		return err
	}
	profile, err := ensureProfile(tx.DB, username, SourceOrbis, stampsAt(r.report.At))
	if err != nil {
		return err
	}
	if known == 0 {
		r.report.differs("+", "profile of %s", username)
		return nil
	}
	if profile.IsActive != nil && *profile.IsActive {
		return nil
	}
	ours := tx.Exec("DELETE FROM engine_tick WHERE name = ?", departure(profile.ID))
	if ours.Error != nil || ours.RowsAffected == 0 {
		return ours.Error
	}
	r.report.differs("~", "profile of %s: active again", username)
	return tx.Model(&profile).Updates(map[string]any{"is_active": true, "update_datetime": r.report.At}).Error
}

// dismiss ends what the directory gave to a user, and makes the profile inactive.
func (r *orbisRun) dismiss(tx *database.Tx, username string) error {
	var profiles []int64
	err := tx.Model(&Profile{}).Where("user_id = ? AND source = ? AND is_active AND delete_datetime IS NULL", username, SourceOrbis).
		Order("id").Pluck("id", &profiles).Error
	if err != nil || len(profiles) == 0 {
		return err
	}
	ended := r.endWhere(tx, "profile_id IN ?", profiles)
	if ended.Error != nil {
		return ended.Error
	}
	for _, profile := range profiles {
		err := tx.Exec("INSERT INTO engine_tick (name, at, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
			departure(profile), r.report.At, r.report.At).Error
		if err != nil {
			return err
		}
	}
	r.report.differs("-", "profile of %s, with %d accesses", username, ended.RowsAffected)
	return tx.Model(&Profile{}).Where("id IN ?", profiles).Updates(map[string]any{"is_active": false, "update_datetime": r.report.At}).Error
}
