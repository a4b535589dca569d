package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
)

// Store holds the queries about users and refused logins.
type Store struct{ db *database.DB }

// NewStore reads and writes on db.
func NewStore(db *database.DB) *Store { return &Store{db: db} }

// Live is the user of that name, unless there is none or it was deleted.
func (s *Store) Live(ctx context.Context, username string) (User, bool, error) {
	if !storable(username) {
		return User{}, false, nil
	}
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

// Attempt notes a login attempt as refused until it turns out otherwise (see Withdraw, SignedIn), unless the name has had
// max refusals since forget: then it tells when the newest was. Attempts at the same moment are counted one after the
// other, so that many at once get no more guesses than one after another.
func (s *Store) Attempt(ctx context.Context, username string, now, forget time.Time, most int) (locked bool, newest time.Time, err error) {
	err = s.db.Update(ctx, func(tx *database.Tx) error {
		if err := database.LockName(tx, "login:"+username); err != nil {
			return err
		}
		if err := tx.Where("username = ? AND at <= ?", username, forget).Delete(&LoginFailure{}).Error; err != nil {
			return fmt.Errorf("forget login failures: %w", err)
		}
		var rows []LoginFailure
		if err := tx.Where("username = ?", username).Order("at DESC").Limit(most).Find(&rows).Error; err != nil {
			return fmt.Errorf("count login failures: %w", err)
		}
		if len(rows) >= most {
			locked, newest = true, rows[0].At
			return nil
		}
		if err := tx.Create(&LoginFailure{Username: username, At: now}).Error; err != nil {
			return fmt.Errorf("note a login attempt: %w", err)
		}
		return nil
	})
	return locked, newest, err
}

// Withdraw forgets an attempt that could not be judged.
func (s *Store) Withdraw(ctx context.Context, username string, at time.Time) error {
	if err := s.db.Write(ctx).Where("username = ? AND at = ?", username, at).Delete(&LoginFailure{}).Error; err != nil {
		return fmt.Errorf("withdraw a login attempt: %w", err)
	}
	return nil
}

// ForgetFailures deletes the refused logins of all names up to a moment, and tells how many: names that were tried once
// would otherwise stay for ever.
func (s *Store) ForgetFailures(ctx context.Context, until time.Time) (int64, error) {
	res := s.db.Write(ctx).Where("at <= ?", until).Delete(&LoginFailure{})
	if res.Error != nil {
		return 0, fmt.Errorf("forget login failures: %w", res.Error)
	}
	return res.RowsAffected, nil
}

// rehash replaces a stored password by a better form of the same; nothing if another was set meanwhile.
type rehash struct{ old, new string }

// SignedIn notes a login: last_login alone, and the name's refusals up to now are forgotten.
func (s *Store) SignedIn(ctx context.Context, username, attempted string, now time.Time, better rehash) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Model(&User{}).Where("username = ?", username).Update("last_login", now).Error; err != nil {
			return fmt.Errorf("note a login: %w", err)
		}
		if better.new != "" {
			if err := tx.Model(&User{}).Where("username = ? AND password = ?", username, better.old).Update("password", better.new).Error; err != nil {
				return fmt.Errorf("hash a password anew: %w", err)
			}
		}
		if err := tx.Where("username = ? AND at <= ?", attempted, now).Delete(&LoginFailure{}).Error; err != nil {
			return fmt.Errorf("forget login failures: %w", err)
		}
		return nil
	})
}

// storable tells whether a name can stand in the database at all; asking for one that cannot is an error there.
func storable(name string) bool { return utf8.ValidString(name) && !strings.ContainsRune(name, 0) }
