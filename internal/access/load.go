package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
)

// InitialData are the accounts and roles that an installation begins with (system.md 16.1; schema.md 9; decision 35). An
// account without a user name is left out.
type InitialData struct {
	Admin, QueryExecutor, ETL NewUser
	// Roles are made beside the administrator's, where no role has their name.
	Roles []RoleSeed
}

// RoleSeed is a role to begin with.
type RoleSeed struct {
	Name   string
	Rights Rights
}

// adminRole is the name of the administrator's role.
const adminRole = "Full Admin"

// DemoRoles are what a demonstration, or an installation without roles of its own, begins with.
func DemoRoles() []RoleSeed {
	return []RoleSeed{
		{careTeamRole, ReadNominative | SearchByIPP},
		{"Chercheur nominatif", ReadNominative | ReadPseudonymized | SearchByIPP | SearchOpposed | ExportCSVXLSXNominative | ExportJupyterNominative},
		{"Chercheur pseudonymisé", ReadPseudonymized | ExportJupyterPseudonymized},
		{"Gestionnaire des accès données", ManageUsers | ManageDataSameLevel | ManageDataInferiorLevels},
		{"Gestionnaire des accès administrateurs", ManageUsers | ManageAdminSameLevel | ManageAdminInferiorLevels},
		{"Gestionnaire des datalabs", ManageDatalabs | ReadDatalabs},
	}
}

// careTeamRole is the role that the directory's care teams get, by its name (accesses.md 20).
const careTeamRole = "Personnel médical - Equipe de soin"

// LoadReport says what Load did.
type LoadReport struct {
	Perimeters int  // loaded now
	Skipped    bool // there were perimeters already
	// Lines tell it to the operator.
	Lines []string
}

func (r *LoadReport) say(format string, args ...any) {
	r.Lines = append(r.Lines, fmt.Sprintf(format, args...))
}

// ErrSeveralRoots says that the administrator's access has no place.
var ErrSeveralRoots = errors.New("CSV file configuration error: ensure you have a single root perimeter")

// Load fills an empty installation: perimeters from a file (see ReadPerimeters), the administrator with every right on the
// root for a year, and the accounts of the machines. It may be run again, also at the same time: what is there is left as
// it is, and where there are perimeters already, nobody becomes administrator beside another one. One transaction: a mistake
// leaves nothing behind.
func (s *Service) Load(ctx context.Context, perimeters io.Reader, data InitialData) (report LoadReport, err error) {
	err = s.db.Update(ctx, func(tx *database.Tx) error {
		report = LoadReport{}
		if err := touchTree(tx); err != nil { // holds back another Load until this one is done
			return err
		}
		if err := s.loadPerimeters(tx, perimeters, &report); err != nil {
			return err
		}
		if err := s.seedRoles(tx, data.Roles, &report); err != nil {
			return err
		}
		if err := s.seedAdmin(ctx, tx, data.Admin, &report); err != nil {
			return err
		}
		for _, machine := range []NewUser{data.QueryExecutor, data.ETL} {
			if _, err := s.seedUser(ctx, tx, machine, &report); err != nil {
				return err
			}
		}
		return nil
	})
	return report, err
}

func (s *Service) loadPerimeters(tx *database.Tx, file io.Reader, report *LoadReport) error {
	var there int64
	if err := tx.Model(&Perimeter{}).Count(&there).Error; err != nil {
		return fmt.Errorf("count perimeters: %w", err)
	}
	if there > 0 {
		report.Skipped = true
		report.say("Found %d perimeters in DB, the file is not loaded", there)
		return nil
	}
	rows, err := ReadPerimeters(file)
	if err != nil {
		return err
	}
	if err := putPerimeters(tx, rows, s.clock.Now()); err != nil {
		return err
	}
	report.Perimeters = len(rows)
	report.say("Successfully loaded %d perimeters", len(rows))
	return nil
}

// putPerimeters inserts rows, and overwrites those of the same id but for the moment of their insertion.
func putPerimeters(tx *database.Tx, rows []Perimeter, now time.Time) error {
	columns := []string{"update_datetime", "delete_datetime"}
	for name := range perimeterColumns {
		if name != "id" {
			columns = append(columns, name)
		}
	}
	for i := range rows {
		rows[i].Stamps = stampsAt(now)
	}
	overwrite := clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns(columns)}
	if err := tx.Clauses(overwrite).CreateInBatches(rows, 500).Error; err != nil {
		return fmt.Errorf("write perimeters: %w", err)
	}
	return touchTree(tx)
}

// seedUser creates an account and its profile.
func (s *Service) seedUser(ctx context.Context, tx *database.Tx, u NewUser, report *LoadReport) (Profile, error) {
	if u.Username == "" {
		return Profile{}, nil
	}
	created, err := s.peers.Users.EnsureUser(ctx, tx, u)
	if err != nil {
		return Profile{}, fmt.Errorf("create user %s: %w", u.Username, err)
	}
	switch {
	case !created:
		report.say("Found an old user %s in DB, proceed with it", u.Username)
	case u.Password == "admin" || u.Password == "1234":
		report.say("WARNING: user '%s' has the password that everybody knows; change it", u.Username)
	}
	return ensureProfile(tx.DB, u.Username, SourceManual, stampsAt(s.clock.Now()))
}

func (s *Service) seedAdmin(ctx context.Context, tx *database.Tx, admin NewUser, report *LoadReport) error {
	if admin.Username == "" {
		return nil
	}
	if report.Skipped {
		if held, err := administered(tx); err != nil || held {
			return err
		}
	}
	profile, err := s.seedUser(ctx, tx, admin, report)
	if err != nil {
		return err
	}
	role, err := s.ensureRole(tx, RoleSeed{adminRole, AllRights})
	if err != nil {
		return err
	}
	var roots []int64
	if err := tx.Model(&Perimeter{}).Where("parent_id IS NULL AND delete_datetime IS NULL").Limit(2).Pluck("id", &roots).Error; err != nil {
		return fmt.Errorf("look for the root perimeter: %w", err)
	}
	if len(roots) != 1 {
		return ErrSeveralRoots
	}
	now := s.clock.Now()
	given, err := s.ensureAccess(tx, profile, role, roots[0], now, now.AddDate(0, 0, 365))
	if err == nil && given {
		report.say("Successfully added user '%s' with '%s' role", admin.Username, adminRole)
	}
	return err
}

// administered tells whether somebody was ever given full administration: an installation at work must not get another
// administrator, with a password of the configuration, by a restart.
func administered(tx *database.Tx) (bool, error) {
	var n int64
	err := tx.Table("accesses_access a").Joins("JOIN accesses_role r ON r.id = a.role_id").
		Where("a.delete_datetime IS NULL AND r.right_full_admin").Limit(1).Count(&n).Error
	if err != nil {
		return false, fmt.Errorf("look for an administrator: %w", err)
	}
	return n > 0, nil
}

func (s *Service) seedRoles(tx *database.Tx, seeds []RoleSeed, report *LoadReport) error {
	for _, seed := range seeds {
		if _, err := s.ensureRole(tx, seed); err != nil {
			return err
		}
	}
	if len(seeds) > 0 {
		report.say("Checked %d roles", len(seeds))
	}
	return nil
}

// ensureRole finds a live role by its name, or makes it.
func (s *Service) ensureRole(tx *database.Tx, seed RoleSeed) (Role, error) {
	var role Role
	err := tx.Where("name = ? AND delete_datetime IS NULL", seed.Name).Take(&role).Error
	if err == nil {
		return role, nil
	}
	if !errors.Is(err, gorm.ErrRecordNotFound) {
		return Role{}, fmt.Errorf("look for role %q: %w", seed.Name, err)
	}
	role = Role{Stamps: stampsAt(s.clock.Now()), Name: &seed.Name, Flags: FlagsOf(seed.Rights)}
	return role, nameTaken(tx.Create(&role).Error)
}

// ensureAccess gives a profile a role on a perimeter unless it ever had it there: an access that was closed or deleted does
// not come back by itself.
func (s *Service) ensureAccess(tx *database.Tx, p Profile, r Role, perimeter int64, from, until time.Time) (given bool, err error) {
	var had int64
	err = tx.Model(&Access{}).Where("profile_id = ? AND role_id = ? AND perimeter_id = ?", p.ID, r.ID, perimeter).Count(&had).Error
	if err != nil {
		return false, fmt.Errorf("look for an access: %w", err)
	}
	if had > 0 {
		return false, nil
	}
	row := Access{
		Stamps: stampsAt(s.clock.Now()), Source: new(SourceManual), ProfileID: &p.ID, RoleID: &r.ID, PerimeterID: &perimeter,
		StartDatetime: &from, EndDatetime: &until,
	}
	if err := tx.Create(&row).Error; err != nil {
		return false, fmt.Errorf("create access: %w", err)
	}
	return true, nil
}

// ReloadPerimeters makes the perimeters exactly what a file says: each with all its columns and not deleted, all others
// soft-deleted. It is for demonstrations and tests; the numbers of users are 0 until they are counted again.
func (s *Service) ReloadPerimeters(ctx context.Context, file io.Reader) (int, error) {
	rows, err := ReadPerimeters(file)
	if err != nil {
		return 0, err
	}
	return len(rows), s.db.Update(ctx, func(tx *database.Tx) error {
		now := s.clock.Now()
		ids := make([]int64, len(rows))
		for i, row := range rows {
			ids[i] = row.ID
		}
		gone := tx.Model(&Perimeter{}).Where("delete_datetime IS NULL").Not(database.OneOf("id", ids))
		if err := gone.Update("delete_datetime", now).Error; err != nil {
			return fmt.Errorf("delete the other perimeters: %w", err)
		}
		return putPerimeters(tx, rows, now)
	})
}
