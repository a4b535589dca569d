package access

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
)

// The fixed rows of the developers' administrator (system.md 16.2).
const (
	testerRole      = "LOCAL TESTER ROLE"
	testerRoleID    = 123456
	testerPerimeter = 8312002244
	week            = 7 * 24 * time.Hour
)

// CreateAdmin makes a developer's account with every right on a perimeter of its own (system.md 16.2), also again where the
// access has ended, the role has lost a right, the profile is inactive or the perimeter was deleted. An existing account keeps
// its password.
func (s *Service) CreateAdmin(ctx context.Context, username, password string) error {
	user := NewUser{Username: username, Firstname: "John", Lastname: "DOE", Email: "john.doe." + username + "@aphp.fr", Password: password}
	if username == "420123456" {
		user.Email = "john.doe@aphp.fr"
	}
	return s.db.Update(ctx, func(tx *database.Tx) error {
		profile, err := s.seedUser(ctx, tx, user, &LoadReport{})
		if err != nil {
			return err
		}
		if profile.IsActive == nil || !*profile.IsActive {
			if err := tx.Model(&profile).Updates(map[string]any{"is_active": true, "update_datetime": s.clock.Now()}).Error; err != nil {
				return fmt.Errorf("make profile %d active: %w", profile.ID, err)
			}
		}
		role, err := s.testerRole(tx)
		if err != nil {
			return err
		}
		if err := s.testerPerimeter(tx); err != nil {
			return err
		}
		now := s.clock.Now()
		var held int64
		err = accessesAs(tx.DB, profile, role, testerPerimeter).
			Where("delete_datetime IS NULL AND start_datetime <= ? AND end_datetime >= ?", now, now).Count(&held).Error
		if err != nil {
			return fmt.Errorf("look for an access: %w", err)
		}
		if held > 0 {
			return nil
		}
		return s.giveAccess(tx, profile, role, testerPerimeter, now.AddDate(0, 0, -1), now.Add(5200*week))
	})
}

// testerRole is the role of the fixed id if it has every right, for that id may be another role's; or else the one of the
// name, which gets every right.
func (s *Service) testerRole(tx *database.Tx) (Role, error) {
	role, found, err := live[Role](tx.DB, testerRoleID)
	if err != nil || found && role.Rights() == AllRights {
		return role, err
	}
	role, err = s.ensureRole(tx, RoleSeed{testerRole, AllRights})
	if err != nil || role.Rights() == AllRights {
		return role, err
	}
	role.Flags, role.UpdateDatetime = FlagsOf(AllRights), new(s.clock.Now())
	return role, nameTaken(tx.Save(&role).Error)
}

// testerPerimeter makes the perimeter, or revives it: on a deleted one an access gives nothing.
func (s *Service) testerPerimeter(tx *database.Tx) error {
	var p Perimeter
	err := tx.Where("id = ?", testerPerimeter).Take(&p).Error
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return putPerimeters(tx, []Perimeter{{
			ID: testerPerimeter, LocalID: "LOCAL_8312002244", Name: new("Top Perimeter"), Level: new(0), CountAllowedUsers: new(0),
			CountAllowedUsersAboveLevels: new(0), CountAllowedUsersInferiorLevels: new(0),
		}}, s.clock.Now())
	case err != nil:
		return fmt.Errorf("look for perimeter %d: %w", testerPerimeter, err)
	case p.Live():
		return nil
	}
	if err := touchTree(tx); err != nil {
		return err
	}
	revived := map[string]any{"delete_datetime": nil, "update_datetime": s.clock.Now()}
	if err := tx.Model(&p).Updates(revived).Error; err != nil {
		return fmt.Errorf("revive perimeter %d: %w", testerPerimeter, err)
	}
	return nil
}

// GenerateUsers makes accounts nobody can log in with, each with an access on the perimeter with the role (system.md 16.3),
// and returns their names. A missing perimeter or role is a fault.NotFound, and nothing is made.
func (s *Service) GenerateUsers(ctx context.Context, count int, perimeter, roleID int64) (names []string, err error) {
	role, err := s.GetRole(ctx, roleID)
	if err != nil {
		return nil, err
	}
	if _, err := s.GetPerimeter(ctx, perimeter); err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx *database.Tx) error {
		names = nil
		from := s.clock.Now().AddDate(0, 0, -20)
		for i := range count {
			username, err := s.inventUser(ctx, tx, i)
			if err != nil {
				return err
			}
			profile, err := ensureProfile(tx.DB, username, SourceManual, stampsAt(s.clock.Now()))
			if err != nil {
				return err
			}
			if _, err := s.ensureAccess(tx, profile, role, perimeter, from, from.AddDate(0, 0, 1020)); err != nil {
				return err
			}
			names = append(names, username)
		}
		return nil
	})
	return names, err
}

// inventUser creates the i-th account, under the first free name.
func (s *Service) inventUser(ctx context.Context, tx *database.Tx, i int) (string, error) {
	for number := 10000000 + i; ; number += 100 {
		username := strconv.Itoa(number)
		created, err := s.peers.Users.EnsureUser(ctx, tx, NewUser{
			Username: username, Firstname: []string{"John", "Jane"}[i%2], Lastname: fmt.Sprintf("DOE_%d", i), Email: username + "@example.com",
		})
		if err != nil {
			return "", fmt.Errorf("create user %s: %w", username, err)
		}
		if created {
			return username, nil
		}
	}
}
