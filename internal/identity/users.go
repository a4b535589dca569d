package identity

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"strings"

	"gorm.io/gorm"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// Profiles makes the profile that each user of the API gets: source Manual, active. Profiles belong to access.
type Profiles interface {
	AddManualProfile(ctx context.Context, tx *database.Tx, username string) error
}

// People looks users up in the hospital's directory (system.md 5.4).
type People interface {
	// Find is ok=false for a person that the directory does not know.
	Find(ctx context.Context, username string) (p Person, ok bool, err error)
}

// Person is what a directory knows of somebody.
type Person struct{ Username, Firstname, Lastname, Email string }

// UsersConfig is what Users is built from; People may be nil.
type UsersConfig struct {
	DB            *database.DB
	Store         *Store
	Clock         clock.Clock
	Passwords     Passwords
	Profiles      Profiles
	People        People
	UsernameRegex string
	EmailRegex    string
	// Created is called once a user of the API exists, for what their accesses need from elsewhere; nil: nothing.
	Created func(ctx context.Context, username string)
}

// Users lists, creates and changes users (system.md 5).
type Users struct {
	cfg      UsersConfig
	username *regexp.Regexp
	email    *regexp.Regexp
}

// NewUsers refuses expressions that do not compile. USERNAME_REGEX and EMAIL_REGEX match from the start of the value.
func NewUsers(cfg UsersConfig) (*Users, error) {
	username, err := regexp.Compile(`^(?:` + cfg.UsernameRegex + `)`)
	if err != nil {
		return nil, fmt.Errorf("USERNAME_REGEX: %w", err)
	}
	email, err := regexp.Compile(`^(?:` + cfg.EmailRegex + `)`)
	if err != nil {
		return nil, fmt.Errorf("EMAIL_REGEX: %w", err)
	}
	return &Users{cfg: cfg, username: username, email: email}, nil
}

// names of persons: letters, digits, apostrophes, dashes, blanks (system.md 5.3).
var personName = regexp.MustCompile(`^[\p{L}\p{M}\p{N}_' -]*$`)

// NewUser is what is needed to make an account.
type NewUser struct {
	Username, Firstname, Lastname, Email string
	Password                             *string // clear; nil: no local sign-in
	CreatedBy                            *string
}

// Create makes a user and their profile, in one transaction.
func (u *Users) Create(ctx context.Context, caller Caller, body web.Object) (User, error) {
	if err := u.checkBasics(body); err != nil {
		return User{}, err
	}
	f := web.FieldsOf(body, false)
	row, err := u.read(f)
	if err != nil {
		return User{}, err
	}
	if err := u.checkUnique(ctx, f, row, ""); err != nil {
		return User{}, err
	}
	now := u.cfg.Clock.Now()
	row.InsertDatetime, row.UpdateDatetime = &now, &now
	row.CreatedBy, row.UpdatedBy = &caller.Username, &caller.Username
	err = u.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create user: %w", err)
		}
		if u.cfg.Created != nil {
			tx.AfterCommit(func(ctx context.Context) { u.cfg.Created(ctx, row.Username) })
		}
		return u.cfg.Profiles.AddManualProfile(ctx, tx, row.Username)
	})
	if errors.Is(err, gorm.ErrDuplicatedKey) { // two at once: the other one is seen by now
		if err := u.checkUnique(ctx, web.FieldsOf(body, false), row, ""); err != nil {
			return User{}, err
		}
	}
	return row, err
}

// checkBasics looks at names and address before the ordinary validation, with messages of its own.
func (u *Users) checkBasics(body web.Object) error {
	first, ok1 := body["firstname"].(string)
	last, ok2 := body["lastname"].(string)
	email, ok3 := body["email"].(string)
	switch {
	case !ok1 || !ok2 || !ok3 || first == "" || last == "" || email == "":
		return badRequest("Basic info fields must be strings")
	case !personName.MatchString(first + last):
		return badRequest("Invalid firstname/lastname: may contain only letters and `'-`")
	case !u.email.MatchString(email):
		return badRequest("Invalid email address " + cut(email, 254) + ": may be only alphanumeric or contain `@_-.`")
	}
	return nil
}

func (u *Users) read(f *web.Fields) (User, error) {
	var row User
	row.Username = f.String("username", web.Required, web.MaxLen(30)).Value
	row.Firstname = f.String("firstname", web.Nullable, web.Blank).Ptr()
	row.Lastname = f.String("lastname", web.Nullable, web.Blank).Ptr()
	row.Email = readEmail(f)
	password := f.String("password", web.Untrimmed)
	if password.Set && password.Value != "" && !f.Has("password") {
		hash, err := u.cfg.Passwords.Hash(password.Value)
		if err != nil {
			return User{}, err
		}
		row.Password = &hash
	}
	return row, nil
}

const msgEmail = "Enter a valid email address."

func readEmail(f *web.Fields) *string {
	switch f.Raw("email").(type) {
	case nil, string:
	default:
		f.Add("email", msgEmail)
		return nil
	}
	email := f.String("email", web.Nullable, web.MaxLen(254))
	if email.Set && !email.Null {
		if a, err := mail.ParseAddress(email.Value); err != nil || a.Address != email.Value || !strings.Contains(email.Value[strings.LastIndex(email.Value, "@"):], ".") {
			f.Add("email", msgEmail)
		}
	}
	return email.Ptr()
}

// checkUnique sees deleted rows too: the database would refuse them all the same.
func (u *Users) checkUnique(ctx context.Context, f *web.Fields, row User, self string) error {
	taken, err := u.cfg.Store.taken(ctx, row.Username, row.Email, self)
	if err != nil {
		return err
	}
	if taken.username && !f.Has("username") {
		f.Add("username", "user with this username already exists.")
	}
	if taken.email && !f.Has("email") {
		f.Add("email", "user with this email address already exists.")
	}
	return f.Err()
}

// Change updates the fields that the body has; the username never changes, and a password is hashed.
func (u *Users) Change(ctx context.Context, caller Caller, username string, body web.Object) (User, error) {
	_, live, err := u.cfg.Store.Live(ctx, username)
	if err != nil {
		return User{}, err
	}
	if !live {
		return User{}, fault.NotFound{Model: "User"}
	}
	f := web.FieldsOf(body, true)
	set := map[string]any{}
	for _, name := range []string{"firstname", "lastname"} {
		if v := f.String(name, web.Nullable, web.Blank); v.Set {
			set[name] = v.Ptr()
		}
	}
	if f.HasKey("email") {
		if set["email"] = readEmail(f); !f.Has("email") {
			if err := u.checkUnique(ctx, f, User{Email: set["email"].(*string)}, username); err != nil {
				return User{}, err
			}
		}
	}
	if password := f.String("password", web.Untrimmed); password.Set {
		hash, err := u.cfg.Passwords.Hash(password.Value)
		if err != nil {
			return User{}, err
		}
		set["password"] = hash
	}
	if err := f.Err(); err != nil {
		return User{}, err
	}
	set["updated_by"], set["update_datetime"] = caller.Username, u.cfg.Clock.Now()
	err = u.cfg.Store.change(ctx, username, set)
	if email, changed := set["email"].(*string); changed && errors.Is(err, gorm.ErrDuplicatedKey) { // two at once
		if err := u.checkUnique(ctx, f, User{Email: email}, username); err != nil {
			return User{}, err
		}
	}
	if err != nil {
		return User{}, err
	}
	user, _, err := u.cfg.Store.Live(ctx, username)
	return user, err
}

// Ensure makes an account that commands need, unless there is one of that name. It is access's Users.
func (u *Users) Ensure(ctx context.Context, tx *database.Tx, n NewUser) (created bool, err error) {
	var found int64
	if err := tx.Model(&User{}).Where("username = ?", n.Username).Count(&found).Error; err != nil {
		return false, fmt.Errorf("look for user: %w", err)
	}
	if found > 0 {
		return false, nil
	}
	now := u.cfg.Clock.Now()
	row := User{Username: n.Username, Firstname: &n.Firstname, Lastname: &n.Lastname, CreatedBy: n.CreatedBy, UpdatedBy: n.CreatedBy, InsertDatetime: &now, UpdateDatetime: &now}
	if n.Email != "" {
		row.Email = &n.Email
	}
	if n.Password != nil {
		hash, err := u.cfg.Passwords.Hash(*n.Password)
		if err != nil {
			return false, err
		}
		row.Password = &hash
	}
	if err := tx.Create(&row).Error; err != nil {
		return false, fmt.Errorf("create user: %w", err)
	}
	return true, nil
}

// Check is the answer of GET /users/{username}/check/: whether an account exists, or the directory knows the person.
type Check struct {
	Username      string  `json:"username"`
	Firstname     *string `json:"firstname"`
	Lastname      *string `json:"lastname"`
	Email         *string `json:"email"`
	AlreadyExists bool    `json:"already_exists"`
	Found         bool    `json:"found"`
}

// Check looks a name up (system.md 5.4).
func (u *Users) Check(ctx context.Context, username string) (Check, error) {
	user, live, err := u.cfg.Store.Live(ctx, username)
	if err != nil {
		return Check{}, err
	}
	if live {
		return Check{Username: user.Username, Firstname: user.Firstname, Lastname: user.Lastname, Email: user.Email, AlreadyExists: true}, nil
	}
	if !u.username.MatchString(username) {
		return Check{}, message(400, "Invalid username format")
	}
	if u.cfg.People == nil {
		return Check{}, message(404, "User not found")
	}
	p, ok, err := u.cfg.People.Find(ctx, username)
	if err != nil {
		return Check{}, message(500, "The directory of people could not be asked")
	}
	if !ok {
		return Check{}, message(404, "User not found")
	}
	return Check{Username: p.Username, Firstname: &p.Firstname, Lastname: &p.Lastname, Email: &p.Email, Found: true}, nil
}

func message(status int, text string) error {
	return fault.Refused{Status: status, Body: map[string]string{"message": text}}
}
