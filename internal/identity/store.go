package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
)

// Store holds the queries about users and refused logins.
type Store struct{ db *database.DB }

// NewStore reads and writes on db.
func NewStore(db *database.DB) *Store { return &Store{db: db} }

// Live is the user of that name, unless there is none or it was deleted.
func (s *Store) Live(ctx context.Context, username string) (User, bool, error) {
	var u User
	err := s.db.Read(ctx).Where("username = ? AND delete_datetime IS NULL", username).Take(&u).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return User{}, false, nil
	}
	if err != nil {
		return User{}, false, fmt.Errorf("find user: %w", err)
	}
	return u, true, nil
}

// Names are the display names of users, deleted ones included.
func (s *Store) Names(ctx context.Context, usernames []string) (map[string]string, error) {
	names := map[string]string{}
	if len(usernames) == 0 {
		return names, nil
	}
	var users []User
	if err := s.db.Read(ctx).Where("username IN ?", usernames).Find(&users).Error; err != nil {
		return nil, fmt.Errorf("names of users: %w", err)
	}
	for _, u := range users {
		names[u.Username] = u.DisplayName()
	}
	return names, nil
}

// Failures counts the refused logins of a name since a moment, and tells the newest.
func (s *Store) Failures(ctx context.Context, username string, since time.Time) (n int, newest time.Time, err error) {
	var rows []LoginFailure
	if err := s.db.Read(ctx).Where("username = ? AND at > ?", username, since).Order("at DESC").Limit(1000).Find(&rows).Error; err != nil {
		return 0, time.Time{}, fmt.Errorf("count login failures: %w", err)
	}
	if len(rows) > 0 {
		newest = rows[0].At
	}
	return len(rows), newest, nil
}

// AddFailure notes a refused login, and forgets those of the name that no longer count.
func (s *Store) AddFailure(ctx context.Context, username string, now, forget time.Time) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Where("username = ? AND at <= ?", username, forget).Delete(&LoginFailure{}).Error; err != nil {
			return fmt.Errorf("forget login failures: %w", err)
		}
		if err := tx.Create(&LoginFailure{Username: username, At: now}).Error; err != nil {
			return fmt.Errorf("note a login failure: %w", err)
		}
		return nil
	})
}

// SignedIn notes a login: last_login alone, the failures are forgotten, and a password stored in the old form is
// replaced by newHash where that is not empty.
func (s *Store) SignedIn(ctx context.Context, username string, now time.Time, newHash string) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		set := map[string]any{"last_login": now}
		if newHash != "" {
			set["password"] = newHash
		}
		if err := tx.Model(&User{}).Where("username = ?", username).Updates(set).Error; err != nil {
			return fmt.Errorf("note a login: %w", err)
		}
		if err := tx.Where("username = ?", username).Delete(&LoginFailure{}).Error; err != nil {
			return fmt.Errorf("forget login failures: %w", err)
		}
		return nil
	})
}
