package identity

import "time"

// User is a row of the table "user" (schema.md 5.1). There is no "is active" column: a user is usable while the row is
// live.
type User struct {
	Username       string `gorm:"primaryKey"`
	Email          *string
	Firstname      *string
	Lastname       *string
	Password       *string
	LastLogin      *time.Time
	CreatedBy      *string
	UpdatedBy      *string
	InsertDatetime *time.Time
	UpdateDatetime *time.Time
	DeleteDatetime *time.Time
}

// TableName implements gorm's Tabler.
func (User) TableName() string { return "user" }

// DisplayName is "First LAST (username)", as every representation shows users; a missing name prints as None, and a
// deleted user is marked (system.md 3.10).
func (u User) DisplayName() string {
	return DisplayName(u.Username, u.Firstname, u.Lastname, u.DeleteDatetime != nil)
}

// DisplayName writes the name of a user of whom only the columns are at hand.
func DisplayName(username string, firstname, lastname *string, deleted bool) string {
	name := orNone(firstname) + " " + orNone(lastname) + " (" + username + ")"
	if deleted {
		name += " (deleted)"
	}
	return name
}

func orNone(s *string) string {
	if s == nil {
		return "None"
	}
	return *s
}

// LoginFailure is one refused password (decision 32), kept until the lock would be over.
type LoginFailure struct {
	Username string
	At       time.Time
}

// TableName implements gorm's Tabler.
func (LoginFailure) TableName() string { return "engine_login_failure" }
