package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cohortflow/internal/platform/database"
)

// ExpiryAlert is what somebody must know about the end of their accesses (accesses.md 17).
type ExpiryAlert struct {
	Username string `json:"username"`
	// ExpiryDays is the number of days that are left.
	ExpiryDays int `json:"expiry_days"`
}

// Mailer owes mails. What it is given holds no personal data, so that it can be the payload of a task; names and addresses
// are looked up by who sends.
type Mailer interface {
	// AccessesExpire owes the mail of template access_expiry_alert within the transaction.
	AccessesExpire(ctx context.Context, tx *database.Tx, alert ExpiryAlert) error
	// OrbisReport owes the report of a synchronisation to the administrators; without any, nothing.
	OrbisReport(ctx context.Context, tx *database.Tx, report OrbisReport) error
}

// missedDays is how long after its day an alert is still given, when the task did not run on that day.
const missedDays = 7

// alertName names the alert of an access at a threshold in engine_tick: once given, it is never given again. A changed end
// makes it another one.
func alertName(access int64, threshold int) string {
	return fmt.Sprintf("access-expiry/%d/%d", access, threshold)
}

// expiringAccess is an access in force that ends soon.
type expiringAccess struct {
	ID             int64
	StartDatetime  time.Time
	EndDatetime    time.Time
	InsertDatetime *time.Time
	Username       string
}

// AlertExpiring tells those whose accesses are about to end: one mail for each user, access and threshold, even when a
// day was missed or the task runs twice (decision 16). It returns how many mails are owed. Users without e-mail address are
// left out. One user's failure does not keep the others from their mails; it is part of the error.
func (s *Service) AlertExpiring(ctx context.Context) (mails int, err error) {
	if !s.cfg.Alerts {
		return 0, nil
	}
	now := s.clock.Now()
	ending, err := s.endingAccesses(ctx, now)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, threshold := range s.thresholds() {
		byUser := map[string][]expiringAccess{}
		for _, a := range ending {
			if s.due(a, threshold, now) {
				byUser[a.Username] = append(byUser[a.Username], a)
			}
		}
		for _, accesses := range byUser {
			sent, err := s.alert(ctx, accesses, threshold, now)
			if err != nil {
				errs = append(errs, err)
			} else if sent {
				mails++
			}
		}
	}
	return mails, errors.Join(errs...)
}

// thresholds are the two numbers of days, the larger first.
func (s *Service) thresholds() []int {
	list := []int{s.cfg.FirstAlertDays, s.cfg.SecondAlertDays}
	slices.SortFunc(list, func(a, b int) int { return cmp.Compare(b, a) })
	return slices.Compact(list)
}

// endingAccesses are those in force that end within the larger threshold, of live users with an address.
func (s *Service) endingAccesses(ctx context.Context, now time.Time) (list []expiringAccess, err error) {
	last := day(now).AddDate(0, 0, s.thresholds()[0]+1)
	err = s.db.Read(ctx).Table("accesses_access a").
		Joins("JOIN accesses_profile p ON p.id = a.profile_id AND p.delete_datetime IS NULL").
		Joins(`JOIN "user" u ON u.username = p.user_id AND u.delete_datetime IS NULL`).
		Where("a.delete_datetime IS NULL AND a.start_datetime <= ? AND a.end_datetime >= ? AND a.end_datetime < ? AND u.email <> ''", now, now, last).
		Select("a.id, a.start_datetime, a.end_datetime, a.insert_datetime, u.username").Order("a.end_datetime, a.id").Scan(&list).Error
	if err != nil {
		return nil, fmt.Errorf("read the accesses that end soon: %w", err)
	}
	return list, nil
}

// due tells whether the day of an access's alert is today, or was missed a few days ago. Who got an access later than that
// day has missed nothing, and the alert of the smaller threshold takes the place of that of the larger one.
func (s *Service) due(a expiringAccess, threshold int, now time.Time) bool {
	today, onDay := day(now), day(a.EndDatetime).AddDate(0, 0, -threshold)
	began := day(a.StartDatetime)
	if a.InsertDatetime != nil && day(*a.InsertDatetime).After(began) {
		began = day(*a.InsertDatetime)
	}
	if onDay.After(today) || onDay.Before(began) || today.After(onDay.AddDate(0, 0, missedDays)) {
		return false
	}
	for _, smaller := range s.thresholds() {
		if smaller < threshold && !day(a.EndDatetime).AddDate(0, 0, -smaller).After(today) {
			return false
		}
	}
	return true
}

// alert owes one mail about those of a user's accesses that it was not yet owed for.
func (s *Service) alert(ctx context.Context, accesses []expiringAccess, threshold int, now time.Time) (sent bool, err error) {
	err = s.db.Update(ctx, func(tx *database.Tx) error {
		sent = false
		var first *expiringAccess
		for i := range accesses {
			claimed := tx.Exec("INSERT INTO engine_tick (name, at, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
				alertName(accesses[i].ID, threshold), accesses[i].EndDatetime, now)
			if claimed.Error != nil {
				return fmt.Errorf("note the alert of access %d: %w", accesses[i].ID, claimed.Error)
			}
			if claimed.RowsAffected == 1 && first == nil {
				first = &accesses[i]
			}
		}
		if first == nil {
			return nil
		}
		sent = true
		left := int(day(first.EndDatetime).Sub(day(now)).Hours() / 24)
		err := s.peers.Mailer.AccessesExpire(ctx, tx, ExpiryAlert{Username: first.Username, ExpiryDays: left})
		if err != nil {
			return fmt.Errorf("owe the alert of access %d: %w", first.ID, err)
		}
		return nil
	})
	return sent, err
}
